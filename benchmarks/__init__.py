"""What is measured, and against what. Imports all."""
