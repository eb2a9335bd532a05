"""How far a training has come: the fraction done, which drives the schedule, and where it will end.

The end is a number of steps. A time budget or a stop file moves the end; the fraction then runs on from where it is to
1 at the new end, so that the learning rate always anneals to its end. All of it is a record of integers and floats that
is saved with the weights: a resumed run repeats it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

# A budget moves the end only when the forecast is off by more than this share of the remaining steps: a schedule that
# follows every flicker of the clock could never be repeated.
_FORECAST_TOLERANCE = 0.03


@dataclass
class Pace:
    """The fraction of the training as a function of the step, a straight line from an anchor to the end.

    Attributes
    ----------
    end : int
        Steps after which the training ends.
    anchor_step, anchor_fraction
        Where the line begins: 0 and 0.0 unless the end was moved.
    cooling : bool
        Whether the training was told to come to its end; it is then not moved any more.
    """

    end: int
    anchor_step: int = 0
    anchor_fraction: float = 0.0
    cooling: bool = False

    def fraction(self, step: int) -> float:
        """Share done before `step` (0-based), in [0, 1]."""
        if step >= self.end:
            return 1.0
        done = (step - self.anchor_step) / (self.end - self.anchor_step)
        return self.anchor_fraction + (1 - self.anchor_fraction) * done

    def move_end(self, step: int, end: int) -> None:
        """From `step` on, head for `end` instead."""
        fraction = self.fraction(step)
        self.anchor_step, self.anchor_fraction, self.end = step, fraction, max(end, step)

    def cool_down(self, step: int, steps: int) -> None:
        """Come to the end in `steps` more steps, if it is not nearer anyway."""
        self.move_end(step, min(self.end, step + steps))
        self.cooling = True

    def fit(self, step: int, seconds_left: float, seconds_per_step: float, limit: int) -> bool:
        """Move the end to what the remaining time allows, never beyond `limit`; whether it was moved."""
        if self.cooling or seconds_per_step <= 0:
            return False
        end = min(limit, step + max(0, int(seconds_left / seconds_per_step)))
        if abs(end - self.end) <= max(1, _FORECAST_TOLERANCE * (self.end - step)):
            return False
        self.move_end(step, end)
        return True

    def to_json(self) -> dict:
        """The record, as JSON."""
        return asdict(self)
