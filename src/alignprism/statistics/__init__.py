"""Pure functions on arrays: intervals, paired changes, power, adjustment, agreement. numpy and scipy only.

Every figure is an `Estimate`: a number with its interval, or a reason. Clusters are seed prompts.
"""

from alignprism.statistics.adjust import benjamini_hochberg, holm
from alignprism.statistics.agreement import (
    CalibrationBin,
    auc,
    calibration,
    cohen_kappa,
    expected_calibration_error,
    percent_agreement,
    sensitivity,
    specificity,
)
from alignprism.statistics.bradley_terry import Strength, bradley_terry
from alignprism.statistics.corpus import corpus_change, corpus_score
from alignprism.statistics.estimate import CONFIDENCE, MIN_CLUSTERS, Estimate
from alignprism.statistics.paired import McNemar, mcnemar_exact, paired_change, paired_mean_change
from alignprism.statistics.pairwise import (
    WinRates,
    flip_rate,
    length_controlled_win_rate,
    position_bias,
    win_rates,
)
from alignprism.statistics.power import (
    DetectableChange,
    detectable_change,
    effective_pairs,
    paired_power,
    smallest_detectable_change,
)
from alignprism.statistics.rates import rate
from alignprism.statistics.relative import relative_change

__all__ = [
    "CONFIDENCE",
    "MIN_CLUSTERS",
    "CalibrationBin",
    "DetectableChange",
    "Estimate",
    "McNemar",
    "Strength",
    "WinRates",
    "auc",
    "benjamini_hochberg",
    "bradley_terry",
    "calibration",
    "cohen_kappa",
    "corpus_change",
    "corpus_score",
    "detectable_change",
    "effective_pairs",
    "expected_calibration_error",
    "flip_rate",
    "holm",
    "length_controlled_win_rate",
    "mcnemar_exact",
    "paired_change",
    "paired_mean_change",
    "paired_power",
    "percent_agreement",
    "position_bias",
    "rate",
    "relative_change",
    "sensitivity",
    "smallest_detectable_change",
    "specificity",
    "win_rates",
]
