"""A gate by a number that another model gives for the whole image."""

from __future__ import annotations

import numpy as np

from bts_auto.errors import PlanError
from bts_auto.postprocess.context import Context
from bts_auto.postprocess.options import OutputGateOptions
from bts_auto.postprocess.relabel import relabel


def output_gate(mask: np.ndarray, context: Context, options: OutputGateOptions) -> np.ndarray:
    """Remove the region where the named output of the case is below a bound (a classifier that says: no tumour here).

    Raises
    ------
    PlanError
        When the case has no such output.
    """
    if options.output not in context.outputs:
        raise PlanError(f"rule 'output_gate' needs the output '{options.output}' of the case")
    if context.outputs[options.output] >= options.below:
        return mask.copy()
    return relabel(mask, context.mask(mask, options.region), context, options.becomes, options.region)
