from benchmarks.baseline import fallen, load, scheduler, simulated


def test_a_fall_by_a_third_is_said_and_less_is_not() -> None:
    baseline = {"efficiency": 0.9, "speedup": 3.0, "turns": 100.0}
    assert fallen({"efficiency": 0.61, "speedup": 2.0, "turns": 120.0}, baseline) == [
        "speedup must stay above two thirds of its baseline 3, got 2: profile what changed"
    ]


def test_no_simulated_ratio_fell_by_a_third() -> None:
    found, baseline = simulated(), load()
    assert found.keys() <= baseline.keys()
    assert fallen(found, baseline) == []


def test_the_scheduler_did_not_slow_down_by_a_third() -> None:
    found, baseline = scheduler(), load()
    assert found.keys() <= baseline.keys()
    assert fallen(found, baseline) == []
