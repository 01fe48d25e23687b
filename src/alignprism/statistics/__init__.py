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
from alignprism.statistics.correction import MIN_RATERS, CorrectedRate, corrected_rate
from alignprism.statistics.correction_change import CorrectedChange, PairStratum, corrected_change
from alignprism.statistics.estimate import CONFIDENCE, MIN_CLUSTERS, Estimate
from alignprism.statistics.labelled import VERDICTS, DrawnLabels, drawn_labels
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
from alignprism.statistics.prediction_powered import prediction_powered
from alignprism.statistics.rates import rate, weighted_rate
from alignprism.statistics.relative import relative_change
from alignprism.statistics.rogan_gladen import JudgeErrors, errors_of, rogan_gladen
from alignprism.statistics.stratified import Stratum

__all__ = [
    "CONFIDENCE",
    "MIN_CLUSTERS",
    "MIN_RATERS",
    "VERDICTS",
    "CalibrationBin",
    "CorrectedChange",
    "CorrectedRate",
    "DetectableChange",
    "DrawnLabels",
    "Estimate",
    "JudgeErrors",
    "McNemar",
    "PairStratum",
    "Stratum",
    "Strength",
    "WinRates",
    "auc",
    "benjamini_hochberg",
    "bradley_terry",
    "calibration",
    "cohen_kappa",
    "corpus_change",
    "corpus_score",
    "corrected_change",
    "corrected_rate",
    "detectable_change",
    "drawn_labels",
    "effective_pairs",
    "errors_of",
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
    "prediction_powered",
    "rate",
    "relative_change",
    "rogan_gladen",
    "sensitivity",
    "smallest_detectable_change",
    "specificity",
    "weighted_rate",
    "win_rates",
]
