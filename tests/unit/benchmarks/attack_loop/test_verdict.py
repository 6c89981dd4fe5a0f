from benchmarks.attack_loop.verdict import broken, by_attack, by_spending, spread_ms, table

RUN = {
    "name": "a flood",
    "begun_s": 10.0,
    "ended_s": 12.0,
    "statuses": {"200": 1},
}
SPENT = {"name": "pays", "users": ["k1", "k2"], "statuses": {"200": 9}}


def results(**changes):
    held = {
        "availability": [],
        "dripping": [],
        "money": [],
        "health_ms": {"p50": 1, "p99": 2, "max": 150},
        "health_failed": 0,
        "memory_mb": {"start": 100, "peak": 400, "end": 120},
        "rows": {"answers": 10, "missing": 0},
    }
    return held | changes


def test_an_attack_is_held_to_the_health_checks_that_it_overlaps():
    asked = [(9.0, 0.5, 9.0), (9.5, 0.6, 0.1), (11.0, 0.1, 0.3), (12.1, 9.0, 9.0)]
    control = [(9.0, 0.5, 0.0), (11.0, 0.2, 0.0)]

    [row] = by_attack([RUN], asked, control)

    assert (row["runs"], row["longest_s"]) == (1, 2)
    slowest = (row["health_max_ms"], row["cpu_max_ms"], row["control_max_ms"])
    assert slowest == (600, 300, 200)


def test_runs_of_one_attack_are_put_together():
    [row] = by_attack([RUN, RUN | {"begun_s": 20.0, "ended_s": 25.0}], [(21.0, 0.2, 0.1)], [])

    assert (row["runs"], row["longest_s"], row["statuses"]) == (2, 5, {"200": 2})


def test_the_fullest_budget_of_an_attack_is_shown():
    [row] = by_spending([SPENT], {"k1": 90}, {"k1": 80, "k2": 120}, 100)

    assert (row["charged_most"], row["billed_most"]) == (0.9, 1.2)


def test_nothing_is_broken_where_all_was_held():
    assert broken(results()) == []


def test_every_promise_that_was_not_held_is_named():
    slow = {"name": "a flood", "health_max_ms": 201, "cpu_max_ms": 9, "longest_s": 30}
    overspent = {"name": "pays", "billed_most": 1.01, "charged_most": 0.9}

    found = broken(
        results(
            availability=[slow],
            dripping=[slow],
            money=[overspent],
            health_failed=2,
            memory_mb={"start": 100, "peak": 400, "end": 300},
            rows={"answers": 10, "missing": 3},
        )
    )

    words = ("201 ms", "200 MB", "1.01 of a cap", "30 s", "3 of 10 answers", "failed 2 times")
    assert [word for word, line in zip(words, found, strict=True) if word not in line] == []


def test_a_slow_health_check_between_two_attacks_counts_too():
    assert len(broken(results(health_ms={"max": 300}))) == 1


def test_a_cap_holds_for_what_is_charged_too():
    lie = {"name": "has odd usage reported", "billed_most": 0.9, "charged_most": 1.1}

    assert len(broken(results(money=[lie]))) == 1


def test_durations_are_summed_up_in_milliseconds():
    assert spread_ms([0.001] * 99 + [0.5]) == {"p50": 1.0, "p99": 5.99, "max": 500.0}


def test_a_table_is_markdown():
    row = {"name": "a", "runs": 3, "statuses": {"429": 2, "200": 1}}

    lines = table(("name", "runs", "statuses"), [row]).splitlines()

    assert lines[0] == "| name | runs | statuses |"
    assert lines[2] == "| a | 3 | 1 x 200, 2 x 429 |"
