"""Who hears the events."""

from minikernel.events import Event, SchedSwitch, SignalDeliver
from minikernel.report.sinks import Recorder, combine, only


def test_combined_sinks_hear_everything_in_order() -> None:
    heard: list[str] = []
    sink = combine(lambda *_: heard.append("first"), lambda *_: heard.append("second"))
    sink(0, 1, SchedSwitch(1, 2))
    assert heard == ["first", "second"]


def test_one_sink_is_itself() -> None:
    recorder = Recorder()
    assert combine(recorder) is recorder


def test_only_passes_on_what_is_wanted() -> None:
    recorder = Recorder()
    sink = only([SchedSwitch], recorder)
    events: list[Event] = [SchedSwitch(1, 2), Event()]
    for event in events:
        sink(5, 1, event)
    assert recorder.events == [(5, 1, events[0])]


def test_recorder_writes_one_line_an_event() -> None:
    recorder = Recorder()
    recorder(10432, 1, SchedSwitch(1, 2))
    recorder(10433, 2, SignalDeliver(11, 1, 0))  # type: ignore[arg-type]  # an address
    assert recorder.text() == (
        "     10432    1 sched_switch prev_pid=1 next_pid=2\n     10433    2 signal_deliver sig=11 code=1 handler=0x0\n"
    )
