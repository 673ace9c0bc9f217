"""The event file of a run: what is written is read back, and what was cut off is called so."""

from pathlib import Path

from penstock.pipelines.progress import Event, Progress


def progress_of(*events: Event) -> Progress:
    progress = Progress()
    for event in events:
        progress.apply(event)
    return progress


PLAN = Event(kind="planned", time=100, steps=("ingest", "train", "export"))


def test_a_step_goes_from_waiting_to_its_end() -> None:
    progress = progress_of(PLAN, Event(kind="started", time=101, step="ingest"),
                           Event(kind="succeeded", time=103.5, step="ingest"),
                           Event(kind="cached", time=104, step="train"))

    assert [(step.name, step.status, step.seconds) for step in progress] == [
        ("ingest", "succeeded", 2.5), ("train", "cached", 0.0), ("export", "waiting", 0.0)]


def test_the_first_failed_step_is_the_reason() -> None:
    progress = progress_of(PLAN, *(Event(kind=kind, time=1, step=step)
                                   for step in ("train", "restore") for kind in ("started", "failed")))

    assert progress.failed == "train"
    assert progress_of(PLAN).failed == ""


def test_closing_calls_what_was_cut_off_interrupted_and_the_rest_skipped() -> None:
    progress = progress_of(PLAN, Event(kind="started", time=101, step="ingest")).close(now=104)

    assert [(step.name, step.status, step.seconds) for step in progress] == [
        ("ingest", "interrupted", 3.0), ("train", "skipped", 0.0), ("export", "skipped", 0.0)]


def test_a_running_step_counts_on() -> None:
    step = next(iter(progress_of(PLAN, Event(kind="started", time=101, step="ingest"))))
    assert step.seconds_until(105) == 4


def test_a_half_written_line_is_left_out(tmp_path: Path) -> None:
    whole = f"{PLAN.model_dump_json()}\n{Event(kind='started', time=101, step='ingest').model_dump_json()}\n"
    events = tmp_path / "events.jsonl"
    for cut in range(len(whole)):
        events.write_text(whole[:cut], encoding="utf-8")
        running = Progress.read(events).names("running")
        assert running == ([] if cut < len(whole) else ["ingest"])
    events.write_text(whole, encoding="utf-8")
    assert Progress.read(events).names("running") == ["ingest"]
    assert list(Progress.read(tmp_path / "absent")) == []
