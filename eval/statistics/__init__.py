"""Statistics of exams and judges: intervals, differences, agreement, power. Pure; knows nothing of tasks or models."""
