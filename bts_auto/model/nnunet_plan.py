"""Plans of nnU-Net v2 as plans of ours, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bts_auto import registry
from bts_auto.data.labels import BACKGROUND, IGNORE
from bts_auto.errors import ModelError
from bts_auto.networks.options import PlainUNetOptions, ResidualUNetOptions, per_stage
from bts_auto.plan.schema import Plan, SegmentationConfiguration

RESAMPLING = "resample_data_or_seg_to_shape"
_ARCHITECTURES = "dynamic_network_architectures.architectures.unet."
_NETWORKS = {"PlainConvUNet": "plain_unet", "ResidualEncoderUNet": "residual_unet"}
_NORMS = {"InstanceNorm": "instance", "BatchNorm": "batch"}
_ACTIVATIONS = {"LeakyReLU": "leaky_relu", "ReLU": "relu", "ELU": "elu", "SiLU": "silu", "GELU": "gelu"}
_PRESETS = {
    "nnUNetPlannerResEncM": "resenc_m",
    "nnUNetPlannerResEncL": "resenc_l",
    "nnUNetPlannerResEncXL": "resenc_xl",
}
_SAME_NAME = (
    "patch_size", "batch_size", "median_image_size_in_voxels", "spacing", "normalization_schemes", "use_mask_for_norm",
    "batch_dice",
)  # fmt: skip
_SAME_IN_PLAN = (
    "dataset_name", "transpose_forward", "transpose_backward", "original_median_spacing_after_transp",
    "original_median_shape_after_transp",
)  # fmt: skip
_DEFAULT_NORM_EPS = 1e-5
_DEFAULT_SLOPE = 0.01


def plan_from_nnunet(
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    *,
    recipe: str = "nnunet",
    mirror_axes: Mapping[str, tuple[int, ...]] | None = None,
    only: str | None = None,
) -> Plan:
    """Translate the content of nnU-Net's plans.json and dataset.json.

    Imported plans keep the orientation in which images are stored and average logits, as nnU-Net does.

    Parameters
    ----------
    plans, dataset : mapping
    recipe : str
        Under which name the models are kept.
    mirror_axes : mapping of configuration to axes, optional
        The axes that were mirrored in training.
    only : str, optional
        Translate this configuration and its stages alone; other ones may be such that we do not know them.

    Raises
    ------
    ModelError
        When something in the plan is not known to this program; it is named.
    """
    reader = plans.get("image_reader_writer", "SimpleITKIO")
    if "Reorient" in reader:
        raise ModelError(f"reader '{reader}' turns images to RAS, which is not supported")
    names = list(plans["configurations"]) if only is None else _with_stages(plans, only)
    configurations = {}
    for name in names:
        configurations[name] = _configuration(_resolved(plans, name), where=f"configuration '{name}'")
        configurations[name]["inference"]["mirror_axes"] = list((mirror_axes or {}).get(name, ()))
    channels = dataset.get("channel_names") or dataset["modality"]
    statistics = (
        plans.get("foreground_intensity_properties_per_channel")
        or plans.get("foreground_intensity_properties_by_modality")
        or {}
    )
    values = {name: plans[name] for name in _SAME_IN_PLAN} | {
        "version": 1,
        "recipe": recipe,
        "preset": _PRESETS.get(plans.get("experiment_planner_used", ""), "plain"),
        "channel_names": [str(channels[key]) for key in sorted(channels, key=int)],
        "labels": _labels_by_channel(dataset["labels"]),
        "regions_class_order": dataset.get("regions_class_order"),
        "file_ending": dataset["file_ending"],
        "orientation": "as_stored",
        "foreground_intensity_properties_per_channel": statistics,
        "configurations": configurations,
    }
    values["original_median_shape_after_transp"] = [round(n) for n in values["original_median_shape_after_transp"]]
    return Plan.from_values(values)


def _with_stages(plans: Mapping[str, Any], name: str) -> list[str]:
    """The configuration, the stages before it, and the stages after these."""
    found: list[str] = []
    pending = [name]
    while pending:
        at = pending.pop(0)
        if at in found:
            continue
        found.append(at)
        resolved = _resolved(plans, at)
        following = resolved.get("next_stage") or []
        pending += [following] if isinstance(following, str) else following
        pending += [resolved["previous_stage"]] if resolved.get("previous_stage") else []
    return found


def _resolved(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it inherits."""
    merged: dict[str, Any] = {}
    seen: set[str] = set()
    at: str | None = name
    while at is not None:
        if at in seen or at not in plans["configurations"]:
            raise ModelError(
                f"configuration '{name}' needs '{at}', which is missing or in a circle", where="plans.json"
            )
        seen.add(at)
        merged = {**plans["configurations"][at], **merged}
        at = plans["configurations"][at].get("inherits_from")
    return merged


def _labels_by_channel(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The labels in the order of the network's channels: regions as declared, plain labels by value."""
    values = {name: value if isinstance(value, list | tuple) else [value] for name, value in declared.items()}
    if any(len(value) > 1 for value in values.values()):
        return dict(declared)
    return {name: declared[name] for name in sorted(values, key=lambda name: values[name][0])}


def _configuration(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    if (preprocessor := given.get("preprocessor_name", "DefaultPreprocessor")) != "DefaultPreprocessor":
        raise ModelError(f"preprocessor '{preprocessor}' is not known", where=where)
    for scheme in given["normalization_schemes"]:
        if scheme not in registry.names("normaliser"):
            raise ModelError(f"normalisation '{scheme}' is not known", where=where)
    stages, network = _network(_architecture(given), len(given["patch_size"]), where)
    values = {name: given[name] for name in _SAME_NAME}
    values |= stages | {
        "resampling": _resampling(given, where),
        "network": network,
        "inference": {"averaging": "logits", "tile": "patch"},
        "previous_stage": given.get("previous_stage"),
        "next_stage": given.get("next_stage"),
    }
    return values


def _resampling(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    keywords = {}
    for kind in ("data", "seg", "probabilities"):
        if (function := given.get(f"resampling_fn_{kind}")) != RESAMPLING:
            raise ModelError(f"resampling '{function}' is not known", where=where)
        keywords[kind] = given[f"resampling_fn_{kind}_kwargs"]
    shared = [(one.get("order_z", 0), one.get("force_separate_z")) for one in keywords.values()]
    if any(one != shared[0] for one in shared):
        raise ModelError("images, labels and probabilities treat the coarse axis differently", where=where)
    return {
        "image_order": keywords["data"]["order"],
        "label_order": keywords["seg"]["order"],
        "probabilities_order": keywords["probabilities"]["order"],
        "order_z": shared[0][0],
        "separate_z": shared[0][1],
    }


def _architecture(given: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture of a configuration; older plans (before v2.3) describe it in fields of their own."""
    if "architecture" in given:
        return given["architecture"]
    blocks = given["n_conv_per_stage_encoder"]
    kind = given["UNet_class_name"]
    base, most = given["UNet_base_num_features"], given["unet_max_num_features"]
    keywords = {
        "n_stages": len(blocks),
        "features_per_stage": [min(base * 2**stage, most) for stage in range(len(blocks))],
        "kernel_sizes": given["conv_kernel_sizes"],
        "strides": given["pool_op_kernel_sizes"],
        "n_blocks_per_stage" if kind == "ResidualEncoderUNet" else "n_conv_per_stage": blocks,
        "n_conv_per_stage_decoder": given["n_conv_per_stage_decoder"],
        "conv_bias": True,
    }
    return {"network_class_name": _ARCHITECTURES + kind, "arch_kwargs": keywords}


def _network(architecture: Mapping[str, Any], dims: int, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The stages, which are the configuration's, and the network with its further options."""
    kind = architecture["network_class_name"].rsplit(".", 1)[-1]
    if kind not in _NETWORKS:
        raise ModelError(f"architecture '{kind}' is not known", where=where, mend=f"known are {', '.join(_NETWORKS)}")
    given = dict(architecture["arch_kwargs"])
    n_stages = given.pop("n_stages")

    def every_stage(name: str) -> list[Any]:
        value = given.pop(name)
        return [value] * n_stages if isinstance(value, int) else list(value)

    def every_axis(value: Any) -> list[int]:
        return [value] * dims if isinstance(value, int) else list(value)

    stages = {
        "n_stages": n_stages,
        "features_per_stage": every_stage("features_per_stage"),
        "kernel_sizes": [every_axis(size) for size in every_stage("kernel_sizes")],
        "strides": [every_axis(stride) for stride in every_stage("strides")],
    }
    blocks = "n_blocks_per_stage" if kind == "ResidualEncoderUNet" else "n_conv_per_stage"
    options = {name: given.pop(name) for name in (blocks, "n_conv_per_stage_decoder")}
    options |= {"conv_bias": given.pop("conv_bias", False)} | _layers(given, where)
    given.pop("conv_op", None)
    if unknown := [name for name, value in given.items() if value not in (None, False)]:
        raise ModelError(f"the architecture's option '{unknown[0]}' is not known", where=where)
    return stages, {"name": _NETWORKS[kind], "options": options}


def _layers(given: dict[str, Any], where: str) -> dict[str, Any]:
    """Normalisation, activation and dropout; what they consist of is taken out of `given`."""
    norm = _last_name(given.pop("norm_op", None), "InstanceNorm").removesuffix("2d").removesuffix("3d")
    norm_options = given.pop("norm_op_kwargs", None) or {}
    plain = norm_options.get("eps", _DEFAULT_NORM_EPS) == _DEFAULT_NORM_EPS
    if norm not in _NORMS or not plain or not norm_options.get("affine", norm == "BatchNorm" or not norm_options):
        raise ModelError(f"normalisation layer '{norm}' with {norm_options} is not known", where=where)
    activation = _last_name(given.pop("nonlin", None), "LeakyReLU")
    activation_options = given.pop("nonlin_kwargs", None) or {}
    slope = activation_options.get("negative_slope", _DEFAULT_SLOPE)
    if (
        activation not in _ACTIVATIONS
        or slope != _DEFAULT_SLOPE
        or set(activation_options) - {"inplace", "negative_slope"}
    ):
        raise ModelError(f"activation '{activation}' with {activation_options} is not known", where=where)
    dropout, dropout_options = given.pop("dropout_op", None), given.pop("dropout_op_kwargs", None) or {}
    share = dropout_options.get("p", 0.5) if dropout else 0.0
    return {"norm": _NORMS[norm], "activation": _ACTIVATIONS[activation], "dropout": share}


def _last_name(path: str | None, default: str) -> str:
    return (path or default).rsplit(".", 1)[-1]


def plan_to_nnunet(plan: Plan) -> dict[str, Any]:
    """The plan as the content of nnU-Net's plans.json.

    Raises
    ------
    ModelError
        When a configuration has something that nnU-Net does not know; it is named.
    """
    values: dict[str, Any] = {name: _plain(getattr(plan, name)) for name in _SAME_IN_PLAN}
    values |= {
        "plans_name": "nnUNetPlans",
        "image_reader_writer": _reader(plan.file_ending),
        "experiment_planner_used": {preset: name for name, preset in _PRESETS.items()}.get(
            plan.preset, "ExperimentPlanner"
        ),
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": plan.foreground_intensity_properties_per_channel,
        "configurations": {name: _to_configuration(plan.configuration(name), name) for name in plan.configurations},
    }
    return values


def dataset_to_nnunet(plan: Plan, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a dataset.json for nnU-Net; `dataset` is the one that was trained on, as far as it is known.

    Raises
    ------
    ModelError
        When plain labels are not 0, 1, 2, ...: nnU-Net takes a channel's index for its label.
    """
    labels = plan.label_set()
    own: Mapping[str, Any] = plan.labels
    if labels.parts:  # trained on regions that the dataset does not declare
        own = dict(labels.values) | ({} if labels.ignore is None else {IGNORE: labels.ignore})
    declared = {name: _plain(value) for name, value in _labels_by_channel(own).items()}
    plain = [value for name, value in declared.items() if name != IGNORE]
    if not labels.has_regions and [v[0] if isinstance(v, list) else v for v in plain] != list(range(len(plain))):
        raise ModelError("nnU-Net needs the labels 0, 1, 2, ... without gaps", where=plan.dataset_name)
    values = {key: value for key, value in dataset.items() if key in ("name", "description", "reference", "licence")}
    values |= {
        "channel_names": {str(index): name for index, name in enumerate(plan.channel_names)},
        "labels": {BACKGROUND: 0} | declared,
        "numTraining": dataset.get("numTraining", 0),
        "file_ending": plan.file_ending,
    }
    order = labels.regions_class_order
    return values | ({"regions_class_order": list(order)} if order else {})


def _plain(value: Any) -> Any:
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value


def _reader(file_ending: str) -> str:
    return "NaturalImage2DIO" if file_ending in (".png", ".bmp", ".tif") else "SimpleITKIO"


def _to_configuration(configuration: SegmentationConfiguration, name: str) -> dict[str, Any]:
    resampling = configuration.resampling
    values: dict[str, Any] = {field: _plain(getattr(configuration, field)) for field in _SAME_NAME}
    values |= {
        "data_identifier": f"nnUNetPlans_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "architecture": _to_architecture(configuration, name),
    }
    orders = {
        "data": resampling.image_order,
        "seg": resampling.label_order,
        "probabilities": resampling.probabilities_order,
    }
    for kind, order in orders.items():
        values[f"resampling_fn_{kind}"] = RESAMPLING
        values[f"resampling_fn_{kind}_kwargs"] = {
            "is_seg": kind == "seg",
            "order": order,
            "order_z": resampling.order_z,
            "force_separate_z": resampling.separate_z,
        }
    for field in ("previous_stage", "next_stage"):
        if getattr(configuration, field) is not None:
            values[field] = _plain(getattr(configuration, field))
    return values


def _to_architecture(configuration: SegmentationConfiguration, name: str) -> dict[str, Any]:
    options = configuration.network_options()
    if not isinstance(options, PlainUNetOptions | ResidualUNetOptions):
        raise ModelError(f"nnU-Net knows no network '{configuration.network.name}'", where=f"configuration '{name}'")
    if options.norm not in _NORMS.values():
        raise ModelError(f"nnU-Net's U-Net knows no normalisation '{options.norm}'", where=f"configuration '{name}'")
    dims, n_stages = configuration.dims, options.n_stages
    norm = {ours: theirs for theirs, ours in _NORMS.items()}[options.norm]
    activation = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}[options.activation]
    keywords = {
        "n_stages": n_stages,
        **{field: _plain(getattr(options, field)) for field in ("features_per_stage", "kernel_sizes", "strides")},
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "n_conv_per_stage_decoder": _plain(per_stage(options.n_conv_per_stage_decoder, n_stages - 1, "decoder")),
        "conv_bias": options.conv_bias,
        "norm_op": f"torch.nn.modules.{norm.lower()}.{norm}{dims}d",
        "norm_op_kwargs": {"eps": _DEFAULT_NORM_EPS, "affine": True},
        "dropout_op": f"torch.nn.Dropout{dims}d" if options.dropout else None,
        "dropout_op_kwargs": {"p": options.dropout} if options.dropout else None,
        "nonlin": f"torch.nn.{activation}",
        "nonlin_kwargs": {"inplace": True} if activation in ("LeakyReLU", "ReLU", "ELU") else {},
    }
    if isinstance(options, ResidualUNetOptions):
        keywords["n_blocks_per_stage"] = _plain(per_stage(options.n_blocks_per_stage, n_stages, "encoder"))
    else:
        keywords["n_conv_per_stage"] = _plain(per_stage(options.n_conv_per_stage, n_stages, "encoder"))
    kind = {ours: theirs for theirs, ours in _NETWORKS.items()}[configuration.network.name]
    return {
        "network_class_name": _ARCHITECTURES + kind,
        "arch_kwargs": keywords,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
