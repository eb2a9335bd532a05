"""Small networks whose steps tell how fast a machine is, before anything is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bts_auto.plan.presets import BASE_FEATURES

if TYPE_CHECKING:
    from bts_auto.plan.schema import Plan

# Edge of the patch and batch of a network whose steps take a fraction of a second on two cores.
_SMALL = {2: (96, 8), 3: (32, 2)}
# For a budget, whose sizes hang on the machine's speed: a narrow and a usual network that take some seconds.
_LARGER = {2: (96, 2), 3: (64, 2)}
_LARGER_WIDTHS = (16, BASE_FEATURES)


def small_probes(base: Plan) -> Iterator[tuple[Plan, str]]:
    """One network for each number of axes that is planned for, with the name of its configuration."""
    for name in ("2d", "3d_fullres"):
        if name in base.configurations:
            yield from _probe(base, name, *_SMALL[base.configuration(name).dims], BASE_FEATURES)


def budget_probes(base: Plan, name: str, gb: float) -> Iterator[tuple[Plan, str]]:
    """Networks of several widths; first the small one, which tells the number format soonest.

    The larger ones are left out where they would take more memory than `gb`.
    """
    from bts_auto.plan.memory_model import plan_memory

    dims = base.configuration(name).dims
    yield from _probe(base, name, *_SMALL[dims], BASE_FEATURES)
    for width in _LARGER_WIDTHS:
        for probe, _ in _probe(base, name, *_LARGER[dims], width):
            if plan_memory(probe, name).peak <= gb * 2**30:
                yield probe, name


def _probe(base: Plan, name: str, edge: int, batch: int, width: int) -> Iterator[tuple[Plan, str]]:
    """A network for a patch of at most `edge` voxels along each axis; none for cases of a few voxels."""
    from bts_auto.plan.measured import features_of
    from bts_auto.plan.topology import plan_topology

    configuration = base.configuration(name)
    topology = plan_topology(configuration.spacing, [min(edge, n) for n in configuration.median_image_size_in_voxels])
    if topology.n_stages < 2:
        return
    values = {
        "patch_size": topology.patch_size,
        "n_stages": topology.n_stages,
        "kernel_sizes": topology.kernel_sizes,
        "strides": topology.strides,
        "features_per_stage": features_of(width, topology.n_stages, configuration.dims),
        "batch_size": batch,
    }
    yield with_fields(base, name, values), name


def with_fields(base: Plan, name: str, values: dict[str, Any]) -> Plan:
    """`base` with other sizes and this configuration only; options that count stages are cut to the number there is."""
    configuration = base.configuration(name).model_dump(mode="json") | values
    stages = configuration["n_stages"]
    options = dict(configuration["network"]["options"])
    for key, value in options.items():
        if isinstance(value, list):
            wanted = stages - 1 if key.endswith("decoder") else stages
            options[key] = (value + value[-1:] * wanted)[:wanted]
    configuration["network"] = {"name": configuration["network"]["name"], "options": options}
    return type(base).from_values(base.model_dump(mode="json") | {"configurations": {name: configuration}})
