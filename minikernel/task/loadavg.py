"""The load average: how many tasks could run, averaged over 1, 5 and 15 minutes.  Linux: kernel/sched/loadavg.c."""

from typing import Final

FSHIFT: Final = 11  # bits of the fraction
FIXED_1: Final = 1 << FSHIFT
_LOAD_FREQ: Final = 5_004_000_000  # ns between two samples: 5 * HZ + 1 ticks at 250 Hz
_EXP: Final = (1884, 2014, 2037)  # FIXED_1 / exp(5 s / 1, 5, 15 min)
_SI_SHIFT: Final = 16 - FSHIFT  # SI_LOAD_SHIFT
_ROUND: Final = FIXED_1 // 200


class LoadAverage:
    """The three averages, in FIXED_1ths."""

    __slots__ = ("_next", "averages")

    def __init__(self, now_ns: int) -> None:
        self.averages = [0, 0, 0]
        self._next = now_ns + _LOAD_FREQ

    def update(self, now_ns: int, nr_running: int) -> None:
        """Take the samples that are due: *nr_running* tasks run now (calc_global_load)."""
        while now_ns >= self._next:
            self._next += _LOAD_FREQ
            if not nr_running and not any(self.averages):
                self._next += max(now_ns - self._next, 0) // _LOAD_FREQ * _LOAD_FREQ
            active = nr_running << FSHIFT
            self.averages = [_decay(load, exp, active) for load, exp in zip(self.averages, _EXP, strict=True)]

    def sysinfo(self) -> tuple[int, int, int]:
        """The averages in 65,536ths, which is what the system call tells."""
        one, five, fifteen = self.averages
        return one << _SI_SHIFT, five << _SI_SHIFT, fifteen << _SI_SHIFT

    def text(self) -> bytes:
        """As /proc/loadavg shows it."""
        return b" ".join(
            b"%d.%02d" % (load >> FSHIFT, (load & FIXED_1 - 1) * 100 >> FSHIFT)
            for load in (average + _ROUND for average in self.averages)
        )


def _decay(load: int, exp: int, active: int) -> int:
    """calc_load."""
    total = load * exp + active * (FIXED_1 - exp)
    return (total + (FIXED_1 - 1 if active >= load else 0)) >> FSHIFT
