from __future__ import annotations

import io
import re

import pytest

from mtrl_surgery.runs.console import Progress, duration, evaluation_table, learning_curve, printable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def screen(text: str) -> list[str]:
    """What a terminal shows: every line after its last clearing."""
    return [line.split("\x1b[2K")[-1].rstrip("\r") for line in text.split("\n")]


def test_a_log_gets_a_line_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(1000, stream=stream, clock=clock)
    for second in range(1, 31):
        clock.now += 1
        progress.update(second * 10, second * 5)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3 and "\x1b" not in stream.getvalue()
    assert lines[0] == "100/1,000 steps (10.0 %)  10.0 steps/s  5.0 updates/s  success -  ETA 0:01:30"


def test_a_terminal_is_rewritten_at_most_four_times_a_second() -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress(1000, stream=stream, clock=clock)
    for step in range(1, 101):  # two seconds
        clock.now += 0.02
        progress.update(step, step)
    assert 7 <= stream.getvalue().count("\r") <= 9
    assert "\n" not in stream.getvalue()
    progress.close()
    assert screen(stream.getvalue())[0].startswith("100/1,000 steps (10.0 %)")
    assert stream.getvalue().endswith("\n")


def test_a_line_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    progress = Progress(10, stream=stream, clock=Clock())
    progress.update(5, 5)
    assert len(screen(stream.getvalue())[0]) == 29


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_a_table_stands_above_the_line(stream: io.StringIO) -> None:
    clock = Clock()
    progress = Progress(10, stream=stream, clock=clock)
    clock.now += 20
    progress.update(5, 5)
    clock.now += 1
    progress.print("table\nrows")
    progress.update(6, 6)
    progress.close()
    shown = screen(stream.getvalue())
    assert shown[shown.index("table") + 1] == "rows" and "/10 steps" in shown[shown.index("rows") + 1]


def test_a_resumed_run_counts_only_its_own_steps_for_the_rate() -> None:
    clock = Clock()
    progress = Progress(2000, start=1000, updates=900, stream=io.StringIO(), clock=clock)
    assert progress.rates() == (0.0, 0.0) and progress.line().endswith("ETA -")
    clock.now += 10
    progress.update(1100, 1000)
    progress.evaluated(0.456)
    assert progress.rates() == (10.0, 10.0)
    assert progress.line() == "1,100/2,000 steps (55.0 %)  10.0 steps/s  10.0 updates/s  success 0.46  ETA 0:01:30"


def test_rates_forget_what_was_over_a_minute_ago() -> None:
    clock = Clock()
    progress = Progress(10**6, stream=io.StringIO(), clock=clock)
    for step in range(100):
        clock.now += 1
        progress.update(step * 100, 0)
    for step in range(100):
        clock.now += 1
        progress.update(10_000 + step, 0)
    assert progress.rates()[0] == pytest.approx(1.0)


def test_the_success_of_the_last_evaluation_stays() -> None:
    progress = Progress(10, stream=io.StringIO(), clock=Clock())
    progress.update(1, 1)
    progress.evaluated(0.25)
    progress.update(2, 2)
    assert "success 0.25" in progress.line()


def test_the_table_has_a_line_a_task_and_the_mean() -> None:
    base = {"step": 5000, "episodes": 4, "returns": [100.0, 200.0, 300.0, 400.0]}
    text = evaluation_table(
        [
            {**base, "task": "reach-v3", "successes_any": 4, "successes_last": 1},
            {**base, "task": "drawer-close-v3", "successes_any": 2, "successes_last": 1},
        ]
    )
    lines = text.splitlines()
    assert len(lines) == 4 and "(step 5,000)" in lines[0]
    assert re.split(r"\s+", lines[1]) == ["reach-v3", "1.00", "0.25", "250.0", "4"]
    assert re.split(r"\s+", lines[3]) == ["mean", "0.75", "0.25"]
    assert evaluation_table([]) == "no tasks were evaluated"


def test_there_is_no_eta_in_the_warm_up_nor_from_a_second_after_it() -> None:
    clock = Clock()
    progress = Progress(10_000, stream=io.StringIO(), clock=clock, warmup=1000)
    clock.now += 9
    progress.update(900)
    assert progress.line().endswith("ETA after the warm-up")
    clock.now += 1
    progress.update(1000)
    clock.now += 1
    progress.update(1010, 10)
    assert progress.line().endswith("ETA -"), "one second's rate tells nothing"
    for second in range(1, 10):
        clock.now += 1
        progress.update(1010 + 10 * second, 10)
    assert progress.line().endswith(f"ETA {duration(8900 / 10)}"), "the warm-up's own rate tells nothing"


def test_an_evaluation_is_no_time_without_steps() -> None:
    clock = Clock()
    progress = Progress(10_000, stream=io.StringIO(), clock=clock)
    for second in range(1, 21):
        clock.now += 1
        progress.update(second * 10)
    with progress.paused():
        clock.now += 500
        progress.evaluated(0.5)
    assert progress.rates()[0] == pytest.approx(10.0)
    clock.now += 1
    progress.update(210)
    assert progress.rates()[0] == pytest.approx(10.0) and "  10.0 steps/s" in progress.line()


def test_a_log_has_the_last_line_once() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(100, stream=stream, clock=clock)
    for step in (50, 100):
        clock.now += 20
        progress.update(step, step)
    progress.print("a table")
    progress.close()
    progress.close()
    assert stream.getvalue().count("100/100 steps") == 1


def test_text_of_others_has_no_control_characters() -> None:
    stream = io.StringIO()
    Progress(10, stream=stream, clock=Clock()).print("worker \x1b[2J died\r\x9b1m \udcff\u202e\nnext")
    assert stream.getvalue() == "worker \\x1b[2J died\\r\\x9b1m \\udcff\\u202e\nnext\n"
    assert printable("Grüße 東京") == "Grüße 東京"


def test_the_curve_fits_a_terminal() -> None:
    text = learning_curve([(0, 0.0), (500, 0.5), (1000, 1.0)])
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80 and text.isascii() and text.count("*") == 3
    assert lines[1].startswith("  1.0 |") and lines[1].endswith("*") and lines[-1].endswith("1,000 steps")
    assert lines[11].startswith("  0.0 |*")


def test_what_is_short_says_nothing_and_what_is_longer_has_its_name() -> None:
    stream, clock = io.StringIO(), Clock()

    def progress() -> Progress:
        return Progress(
            1000, updates=None, stream=stream, clock=clock, unit="files", measure=None, name="nyuv2", silent_s=2.0
        )

    short = progress()
    short.update(1000)
    short.close()
    assert stream.getvalue() == ""
    long = progress()
    for second in range(1, 15):
        clock.now = 100.0 + second
        long.update(second * 10)
    clock.now = 120.0
    long.update(1000)
    long.close()
    assert stream.getvalue().splitlines() == [
        "nyuv2: 20/1,000 files (2.0 %)  10.0 files/s  ETA -",
        "nyuv2: 120/1,000 files (12.0 %)  10.0 files/s  ETA 0:01:28",
        "nyuv2: 1,000/1,000 files (100.0 %)  50.0 files/s  ETA 0:00:00",
    ]
