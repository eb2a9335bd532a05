"""Making a plan for this machine: by nnU-Net's rules, by bytes and operations, or for a time budget."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bts_auto.errors import PlanError
from bts_auto.events import SILENT, Observer

if TYPE_CHECKING:
    from bts_auto.data.fingerprint import Fingerprint
    from bts_auto.plan.measured import Limits
    from bts_auto.plan.memory_model import Format
    from bts_auto.plan.rate import Rates
    from bts_auto.plan.recipes import Recipe
    from bts_auto.plan.schema import Asked, Plan
    from bts_auto.steps.trials import Trials

# Left to the system and to what the loader prepares: share of the memory that is not planned for.
_MARGIN = 0.2
# Without a GPU, what a training holds besides its tensors for the next step (`machine.keep_freed_memory`), as a factor.
_KEPT = 1.3
# Without a GPU, more memory than this buys patches that no processor trains in reasonable time.
_MOST_CPU_GB = 8.0
# The plan whose networks are timed to learn the machine's speed.
_SMALL_GB = 1.0
# So often a plan is made anew whose steps take longer than they may.
_MOST_ATTEMPTS = 6
# A step that lasts so much longer than it may is planned anew from what it took.
_TOO_LONG = 1.25
# A GPU may have so much less than the memory that is named for it: makers and drivers count in different ways.
_NAMED = 0.9
# GPUs compute in 16 bits where the plan leaves it to them (`train/precision.py`).
_GPU_FORMAT: Format = "bf16"


@dataclass(frozen=True)
class Request:
    """What was asked of the planner.

    Attributes
    ----------
    gpu_memory : float or None
        GB to plan for, of the device where it has them, else of a GPU elsewhere; None: what is there.
    preset : str or None
        None: the recipe's, else plain.
    planner : {"nnunet", "measured"} or None
        None: nnunet for a GPU or a named memory, else measured.
    budget : float or None
        Seconds that training and validation may take.
    device : str
        What will train: auto, cpu, cuda, cuda:1, mps.
    measure_again : bool
        Whether to forget what was measured of this machine before.

    Raises
    ------
    PlanError
        When it contradicts itself.
    """

    gpu_memory: float | None = None
    preset: str | None = None
    planner: Literal["nnunet", "measured"] | None = None
    budget: float | None = None
    device: str = "auto"
    measure_again: bool = False

    def __post_init__(self) -> None:
        gb = self.gpu_memory
        if gb is not None and not (math.isfinite(gb) and gb > 0):
            raise PlanError(
                f"cannot plan for {gb:g} GB of memory", where="--gpu-memory", mend="give a positive number of GB"
            )
        if self.planner == "nnunet" and self.budget is not None:
            raise PlanError("nnU-Net's rules know no time budget", mend="leave out --planner nnunet or --budget")
        if self.budget is not None and self.elsewhere:
            raise PlanError(
                f"a time budget is planned by trying steps, and no GPU of {gb:g} GB is here",
                mend="leave out --gpu-memory, or add --device cpu to train in that much of this machine's memory",
            )

    @cached_property
    def gpu_gb(self) -> float | None:
        """Memory of the GPU that will train; None where a processor will."""
        from bts_auto import machine

        return machine.gpu_memory_gb(self.device)

    @cached_property
    def hardware(self) -> str:
        """What will train, as measured rates name it."""
        from bts_auto import machine

        return machine.hardware(self.device)

    @property
    def elsewhere(self) -> bool:
        """Whether the memory that is named is that of a GPU which is not here, so that nothing can be tried on it."""
        if self.gpu_memory is None or self.device.partition(":")[0] not in ("auto", "cuda"):
            return False
        return self.gpu_gb is None or self.gpu_gb < _NAMED * self.gpu_memory

    @property
    def on_cpu(self) -> bool:
        """Whether a processor will train: no GPU is here, and what is planned is for no GPU elsewhere."""
        return self.gpu_gb is None and not self.elsewhere


@dataclass(frozen=True)
class Planning:
    """One dataset's planning: what is known of it, what is asked, and where rates are remembered.

    `recipe` lies over the plan. It is laid by :meth:`laid`; a time budget is planned for it before.
    """

    fingerprint: Fingerprint
    dataset: Mapping[str, Any]
    name: str
    request: Request
    rates_folder: Path
    observer: Observer = SILENT
    recipe: Recipe | None = None

    def make(self, preset: str) -> Plan:
        """The plan, with what each configuration is expected to take."""
        if self.request.measure_again:
            self._forget_rates()
        if not self.measures:
            return self.with_expected(self._nnunet(preset))
        if self.request.elsewhere:
            made = self._counted(preset)
        else:
            made = self._measured(preset) if self.budget is None else self._for_budget(preset)
            self._say_if_busy(made)
        return self.with_expected(made.model_copy(update={"asked": self._asked}))

    @property
    def budget(self) -> float | None:
        """Seconds that the plan is made for: what was asked for, of an ensemble the part of each member."""
        whole = self.request.budget
        return None if whole is None else whole / max(1, len(self.parts))

    @property
    def parts(self) -> list[Recipe]:
        """The recipe, or the members of an ensemble; none without a recipe."""
        return [] if self.recipe is None else list(self.recipe.parts().values())

    def trained(self, made: Plan) -> list[Plan]:
        """What is trained of a plan: with the recipe laid over it, of an ensemble with each member's."""
        from bts_auto.plan.recipes import apply_recipe

        return [apply_recipe(made, one) for one in self.parts] or [made]

    def laid(self, made: Plan) -> Plan:
        """A plan with the recipe laid over it, where there is one, and what that is expected to take."""
        from bts_auto.plan.recipes import apply_recipe

        return made if self.recipe is None else self.with_expected(apply_recipe(made, self.recipe))

    @property
    def _asked(self) -> Asked:
        from bts_auto.plan.schema import Asked

        tried_on = None if self.request.elsewhere else self.request.hardware
        return Asked(gpu_memory_gb=self.request.gpu_memory, hardware=tried_on)

    @property
    def measures(self) -> bool:
        """Whether sizes are measured: when asked for, for a budget, and where neither a GPU nor a memory is named.

        The one place where the default planner is chosen: nnU-Net's rules know GPUs only, and on a processor their plan
        trains for months.
        """
        request = self.request
        if request.planner is not None or request.budget is not None:
            return request.planner == "measured" or request.budget is not None
        return request.gpu_memory is None and request.on_cpu

    def _for_budget(self, preset: str) -> Plan:
        from bts_auto.steps.budget import plan_for_budget

        return plan_for_budget(self, preset)

    def _say_if_busy(self, made: Plan) -> None:
        """Say where what was measured tells more of other programs than of the machine."""
        from bts_auto.plan.expect import nearest_rate
        from bts_auto.plan.rate import Rates

        rates, hardware = Rates.load(self.rates_folder), self.request.hardware
        found = [rate for name in made.configurations if (rate := nearest_rate(made, name, rates, hardware))]
        others = max((rate.others for rate in found if rate.busy), default=0.0)
        if others:
            self.observer.warn(
                f"other programs took {others:.0%} of the processors while steps were timed: times are too long, "
                "and sizes may come out small; plan with --measure-again when the machine is idle"
            )

    def _forget_rates(self) -> None:
        from bts_auto.plan.rate import Rates

        if not self.measures:
            raise PlanError("nnU-Net's rules measure nothing", where="--measure-again", mend="add --planner measured")
        Rates.load(self.rates_folder).without(self.request.hardware).save(self.rates_folder)

    def made_before(self, path: Path, preset: str) -> Plan | None:
        """The plan at `path` if the same was asked when it was measured: choices that were measured stay.

        Where the recipe that lies over it has changed since, the plan is made anew.
        """
        from bts_auto.plan.schema import Plan

        request = self.request
        if not (path.exists() and self.measures) or request.measure_again:
            return None
        try:
            old = Plan.load(path)
        except PlanError:
            return None
        labels = old.model_dump(mode="json")["labels"]
        same = (old.fingerprint_hash, old.preset, old.budget_seconds, old.asked, labels) == (
            self.fingerprint.content_hash(), preset, self.budget, self._asked, self.dataset.get("labels")
        )  # fmt: skip
        if old.planner != "measured" or not same or not self._lies_over(old):
            return None
        self.observer.note("planned for this machine before: measured choices stay; --measure-again makes new ones")
        return old

    def _lies_over(self, made: Plan) -> bool:
        """Whether the recipe would change nothing of a plan."""
        again = self.laid(made)
        same = (again.target, list(again.configurations)) == (made.target, list(made.configurations))
        # Not by what is written, which may leave defaults out.
        return same and all(again.configuration(name) == made.configuration(name) for name in made.configurations)

    def with_expected(self, made: Plan) -> Plan:
        """The plan with what each configuration is expected to take on this machine."""
        from bts_auto.plan.expect import with_expected
        from bts_auto.plan.rate import Rates

        if self.measures and self.request.elsewhere:
            return with_expected(made, Rates(), "", precision=_GPU_FORMAT)
        rates = Rates.load(self.rates_folder)
        hardware = self.request.hardware if rates.rates else ""
        return with_expected(made, rates, hardware, on_cpu=self.request.on_cpu)

    def available_gb(self) -> float:
        """Memory that a step may take, in GB: what was asked for, else what is free here, less a margin.

        Raises
        ------
        PlanError
            When nothing is free.
        """
        from bts_auto import machine
        from bts_auto.plan.memory_model import RUNTIME_ON_CPU

        if self.request.gpu_memory is not None:
            return self.request.gpu_memory
        if self.request.gpu_gb is not None:
            return self.request.gpu_gb * (1 - _MARGIN)
        free = machine.free_memory()
        if free <= RUNTIME_ON_CPU:
            least = RUNTIME_ON_CPU / 2**30
            raise PlanError(
                f"only {free / 2**30:.2g} GB of memory are free here, and a training takes {least:.2g} GB before its "
                "first tensor",
                mend=self._mend_memory,
            )
        return min(_MOST_CPU_GB, (free - RUNTIME_ON_CPU) / 2**30 * (1 - _MARGIN) / _KEPT)

    @property
    def _mend_memory(self) -> str:
        named = self.request.gpu_memory is not None
        return "raise --gpu-memory" if named else "end other programs, or give this machine or container more memory"

    def room_gb(self, gb: float) -> float:
        """The most memory in GB that a step of a plan for `gb` may be seen to take."""
        from bts_auto.plan.memory_model import RUNTIME_ON_CPU

        # Half of what is left aside is there for the errors of the memory model and of what is held besides.
        slack = (1 - _MARGIN / 2) / (1 - _MARGIN)
        if self.request.on_cpu:
            return (gb * _KEPT + RUNTIME_ON_CPU / 2**30) * slack
        return gb * slack if self.request.gpu_memory is None else gb  # of a GPU that is named no more may be taken

    @contextlib.contextmanager
    def sizing(self, gb: float) -> Iterator[None]:
        """Sizes are looked for within the block; says how much memory was too little for any."""
        from bts_auto.plan.patch import NothingFits

        try:
            yield
        except NothingFits:
            raise NothingFits(f"not even the smallest network fits {gb:.2g} GB", mend=self._mend_memory) from None

    def usual(self, preset: str) -> Plan:
        """A small plan by nnU-Net's rules: all that does not depend on sizes, and networks to time."""
        return self._plan(preset, _SMALL_GB)

    def _plan(self, preset: str, gb: float, **options: Any) -> Plan:
        from bts_auto.plan.planner import make_plan

        return make_plan(
            self.fingerprint, self.dataset, gpu_memory_gb=gb, preset=preset, dataset_name=self.name, **options
        )

    def _nnunet(self, preset: str) -> Plan:
        from bts_auto.plan.presets import find_preset

        if self.request.gpu_memory is not None:
            return self._plan(preset, self.request.gpu_memory)
        if self.request.gpu_gb is not None:
            self.observer.note(f"planning for the GPU that is here, {self.request.gpu_gb:.1f} GB")
            return self._plan(preset, self.request.gpu_gb)
        usual = find_preset(preset).reference_gb
        self.observer.note(f"no GPU here: planning for {usual:g} GB; --gpu-memory changes that")
        return self._plan(preset, usual)

    def _measured(self, preset: str) -> Plan:
        """Sizes by bytes and operations, each checked by real steps; smaller ones where those do not fit."""
        from bts_auto.steps.fitting import fitting
        from bts_auto.steps.trials import Trials

        gb = self.available_gb()
        self.say_what_for(gb)
        room = self.room_gb(gb)
        with Trials(self.request.device) as trials:
            return fitting(gb, lambda gb: self._tried(trials, preset, gb, room), self.observer)

    def _tried(self, trials: Trials, preset: str, gb: float, room_gb: float) -> Plan:
        """Sizes for so much memory, whose steps were really taken."""
        from bts_auto.steps.measure import check_steps, measure_rates
        from bts_auto.steps.probes import small_probes

        usual, folder = self.usual(preset), self.rates_folder
        for probe, name in small_probes(usual):
            measure_rates(trials, probe, [name], folder, observer=self.observer)
        for _ in range(_MOST_ATTEMPTS):
            made = self._sized_plan(usual, preset, gb)
            check_steps(trials, made, self._sized(made), folder, room_gb=room_gb, observer=self.observer)
            # The small networks were only a guess at the machine's speed; now steps of nearly that size are known.
            if not self._takes_too_long(made):
                break
        return made

    def _counted(self, preset: str) -> Plan:
        """Sizes by bytes alone, for a GPU that is not here."""
        gb = self.available_gb()
        self.say_what_for(gb)
        return self._sized_plan(self.usual(preset), preset, gb)

    def _sized_plan(self, usual: Plan, preset: str, gb: float) -> Plan:
        with self.sizing(gb):
            return self._plan(preset, gb, sizer=self._sizer(usual, preset, gb))

    def _takes_too_long(self, made: Plan) -> bool:
        from bts_auto.plan.measured import LONGEST_STEP_S

        taken = [one.step_seconds or 0.0 for one in self.with_expected(made).expected.values()]
        return max(taken, default=0.0) > _TOO_LONG * LONGEST_STEP_S

    def say_what_for(self, gb: float) -> None:
        """Say which memory is planned for, and how."""
        from bts_auto import machine

        request = self.request
        if request.elsewhere:
            words = f"no such GPU here: planning for {gb:g} GB in bytes; no step is tried, and no time is foretold"
        elif request.gpu_gb is not None:
            words = f"planning for {gb:.3g} GB of the GPU, measured in bytes"
        elif request.gpu_memory is not None:
            free = machine.free_memory() / 2**30
            words = f"planning for this machine's processor and {gb:g} GB of its memory ({free:.1f} GB are free)"
        else:
            words = f"no GPU here: planning for this machine's processor and {gb:.1f} GB of its memory, by trying steps"
            words += "; --gpu-memory GB plans for a GPU elsewhere" if request.budget is None else ""
        self.observer.note(words)

    @staticmethod
    def _sized(made: Plan) -> list[str]:
        """Configurations that have sizes of their own."""
        roots = (name for name, entry in made.configurations.items() if not entry.get("inherits_from"))
        return [name for name in roots if made.configuration(name).n_stages > 1]

    def _sizer(self, usual: Plan, preset: str, gb: float) -> Any:
        from bts_auto.plan.measured import measured_sizer
        from bts_auto.plan.presets import find_preset
        from bts_auto.plan.rate import Rates

        rates, chosen = Rates.load(self.rates_folder), find_preset(preset)
        channels, outputs = len(usual.channel_names), len(usual.label_set().outputs)

        def size(spacing: Any, median: Any, dataset_voxels: float) -> Any:
            limits = self._limits(rates, chosen.network, len(spacing), gb)
            return measured_sizer(chosen, limits, channels, outputs)(spacing, median, dataset_voxels)

        return size

    def _limits(self, rates: Rates, network: str, dims: int, gb: float) -> Limits:
        """What a step of such a network may take."""
        from bts_auto.plan.measured import LONGEST_STEP_S, Limits

        if self.request.elsewhere:
            return Limits(gb, _GPU_FORMAT)
        rate = rates.lasting(self.request.hardware, network, dims, LONGEST_STEP_S)
        if rate is None:  # cases of a few voxels, whose networks have no stages to count
            return Limits(gb)
        return Limits(gb, rate.precision, LONGEST_STEP_S * rate.tflops)
