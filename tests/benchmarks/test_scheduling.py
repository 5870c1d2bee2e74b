from benchmarks import resume, scheduling


def test_the_calibration_loop_counts_steps() -> None:
    assert scheduling.calibrate(0.01) > 0


def test_brief_measures_the_same_headline_figures() -> None:
    assert set(scheduling.GOALS) < set(scheduling.BRIEF) == set(scheduling.FULL)


def test_memory_is_scaled_to_100k_dialogues() -> None:
    found = {figure.name: figure for figure in scheduling.measure_memory(1, brief=True)}
    assert list(found) == ["memory_100k_mb", "memory_100k_transcripts_mb", "memory_100k_transcripts_ids_mb"]
    assert 0 < found["memory_100k_mb"].median < found["memory_100k_transcripts_ids_mb"].median
    assert all(figure.is_at_most for figure in found.values())


def test_resume_replays_real_journalled_replies() -> None:
    [found] = resume.measure(1, brief=True)
    assert (found.name, found.unit, found.is_at_most) == ("resume_10k_s", "s", True)
    assert found.configuration["replies"] == 20
