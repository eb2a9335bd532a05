"""Making a plan for this machine: by nnU-Net's rules, by bytes and operations, or for a time budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bts_auto.errors import PlanError
from bts_auto.events import SILENT, Observer

if TYPE_CHECKING:
    from bts_auto.data.fingerprint import Fingerprint
    from bts_auto.plan.rate import Rates
    from bts_auto.plan.schema import Plan

# Left to the system and to what the loader prepares: share of the memory that is not planned for.
_MARGIN = 0.2
# Without a GPU, more memory than this buys patches that no processor trains in reasonable time.
_MOST_CPU_GB = 8.0
# A training of nnU-Net's length with longer steps than this takes over a month.
_LONGEST_STEP_S = 10.0
# The plan whose networks are timed to learn the machine's speed.
_SMALL_GB = 1.0
# When a real step does not fit, the next plan is made for this share of the memory.
_SHRINK, _MOST_SHRINKS = 0.8, 6


@dataclass(frozen=True)
class Request:
    """What was asked of the planner.

    Attributes
    ----------
    gpu_memory : float or None
        GB to plan for; None: what is there.
    preset : str or None
        None: the recipe's, else plain.
    planner : {"nnunet", "measured"} or None
        None: nnunet for a GPU or a named memory, else measured.
    budget : float or None
        Seconds that training and validation may take.
    device : str
        What will train: auto, cpu, cuda, cuda:1, mps.
    """

    gpu_memory: float | None = None
    preset: str | None = None
    planner: Literal["nnunet", "measured"] | None = None
    budget: float | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Planning:
    """One dataset's planning: what is known of it, what is asked, and where rates are remembered."""

    fingerprint: Fingerprint
    dataset: Mapping[str, Any]
    name: str
    request: Request
    rates_folder: Path
    observer: Observer = SILENT

    def make(self, preset: str) -> Plan:
        """The plan, with what each configuration is expected to take."""
        if self.request.budget is not None:
            if self.request.planner == "nnunet":
                raise PlanError("nnU-Net's rules know no time budget", mend="leave out --planner nnunet or --budget")
            from bts_auto.steps.budget import plan_for_budget

            return plan_for_budget(self, preset)
        return self.with_expected(self._measured(preset) if self.measures else self._nnunet(preset))

    @cached_property
    def gpu_gb(self) -> float | None:
        """Memory of the GPU that will train; None where a processor will."""
        from bts_auto import machine

        return None if self.request.device == "cpu" else machine.gpu_memory_gb()

    @property
    def measures(self) -> bool:
        """Whether sizes are measured: when asked for, and for a budget. It takes minutes, so it is never a surprise."""
        return self.request.budget is not None or self.request.planner == "measured"

    def made_before(self, path: Path, preset: str) -> Plan | None:
        """The plan at `path` if the same was asked when it was measured: choices that were measured stay."""
        from bts_auto import machine
        from bts_auto.plan.schema import Plan

        request = self.request
        if not (path.exists() and self.measures):
            return None
        try:
            old = Plan.load(path)
        except PlanError:
            return None
        if old.planner != "measured" or old.budget_seconds != request.budget:
            return None
        wanted = request.gpu_memory if request.gpu_memory is not None else old.gpu_memory_gb
        labels = old.model_dump(mode="json")["labels"]
        same = (old.fingerprint_hash, old.preset, old.gpu_memory_gb, labels) == (
            self.fingerprint.content_hash(), preset, wanted, self.dataset.get("labels")
        )  # fmt: skip
        if not same or {one.hardware for one in old.expected.values()} != {machine.hardware(request.device)}:
            return None
        self.observer.note("planned for this machine before; the measured choices stay")
        return old

    def with_expected(self, made: Plan) -> Plan:
        """The plan with what each configuration is expected to take on this machine."""
        from bts_auto import machine
        from bts_auto.plan.expect import with_expected
        from bts_auto.plan.rate import Rates

        rates = Rates.load(self.rates_folder)
        return with_expected(made, rates, machine.hardware(self.request.device) if rates.rates else "")

    def available_gb(self) -> float:
        """Memory that a step may take, in GB: what was asked for, else what is free here, less a margin."""
        from bts_auto import machine

        if self.request.gpu_memory is not None:
            return self.request.gpu_memory
        if self.gpu_gb is not None:
            return self.gpu_gb * (1 - _MARGIN)
        return min(_MOST_CPU_GB, machine.free_memory() / 2**30 * (1 - _MARGIN))

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
        if self.gpu_gb is not None:
            self.observer.note(f"planning for the GPU that is here, {self.gpu_gb:.1f} GB")
            return self._plan(preset, self.gpu_gb)
        usual = find_preset(preset).reference_gb
        self.observer.note(f"no GPU here: planning for {usual:g} GB; --gpu-memory changes that")
        return self._plan(preset, usual)

    def _measured(self, preset: str) -> Plan:
        """Sizes by bytes and operations, each checked by real steps; smaller ones where those do not fit."""
        from bts_auto.steps.measure import OutOfMemory, check_steps, measure_rates

        gb, usual = self.available_gb(), self.usual(preset)
        where = "named" if self.request.gpu_memory is not None else "of the GPU" if self.gpu_gb else "of this machine"
        self.observer.note(f"planning for {gb:.1f} GB {where}, measured in bytes")
        rates = measure_rates(usual, self._sized(usual), self.rates_folder, device=self.request.device)
        for _ in range(_MOST_SHRINKS):
            made = self._plan(preset, gb, sizer=self._sizer(usual, preset, gb, rates))
            try:
                check_steps(
                    made, self._sized(made), self.rates_folder, device=self.request.device, observer=self.observer
                )
                return made
            except OutOfMemory as error:
                gb *= _SHRINK
                self.observer.warn(f"{error.where}: a real step does not fit ({error.what}); planning for {gb:.1f} GB")
        raise PlanError(f"no plan fits: a real step fails even when planned for {gb:.1f} GB", mend="free memory")

    @staticmethod
    def _sized(made: Plan) -> list[str]:
        """Configurations that have sizes of their own."""
        roots = (name for name, entry in made.configurations.items() if not entry.get("inherits_from"))
        return [name for name in roots if made.configuration(name).n_stages > 1]

    def _sizer(self, usual: Plan, preset: str, gb: float, rates: Rates) -> Any:
        from bts_auto import machine
        from bts_auto.plan.compute_model import plan_compute
        from bts_auto.plan.measured import Limits, measured_sizer
        from bts_auto.plan.presets import find_preset

        hardware, chosen, channels = (
            machine.hardware(self.request.device),
            find_preset(preset),
            len(usual.channel_names),
        )
        outputs = len(usual.label_set().outputs)

        def size(spacing: Any, median: Any, dataset_voxels: float) -> Any:
            name = "2d" if len(spacing) == 2 else "3d_fullres"
            try:
                tflop = plan_compute(usual, name).step / 1e12
                rate = rates.nearest(hardware, chosen.network, len(spacing), tflop)
            except PlanError:  # cases of a few voxels, whose networks have no stages to count
                rate = None
            limits = Limits(
                gb,
                rate.precision if rate is not None else "fp32",
                _LONGEST_STEP_S * rate.tflops if rate is not None else float("inf"),
            )
            return measured_sizer(chosen, limits, channels, outputs)(spacing, median, dataset_voxels)

        return size
