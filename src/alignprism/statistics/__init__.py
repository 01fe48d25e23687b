"""Pure functions on arrays: intervals, paired changes, corrections by human labels, label plans, agreement, power.
numpy and scipy only.

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
from alignprism.statistics.agreement_nominal import Agreement, gwet_ac1, krippendorff_alpha, rater_agreement
from alignprism.statistics.bradley_terry import Strength, bradley_terry
from alignprism.statistics.calibration_transfer import (
    Calibration,
    Equivalence,
    equal_errors,
    rate_from_calibration,
)
from alignprism.statistics.corpus import corpus_change, corpus_score
from alignprism.statistics.correction import MIN_RATERS, CorrectedRate, corrected_rate
from alignprism.statistics.correction_change import CorrectedChange, PairStratum, corrected_change
from alignprism.statistics.estimate import CONFIDENCE, MIN_CLUSTERS, Estimate
from alignprism.statistics.judge_agreement import JudgeAgreement, judge_agreement
from alignprism.statistics.judge_bias import BiasCell, judge_bias, terciles
from alignprism.statistics.label_plan import (
    Draw,
    Expected,
    LabelPlan,
    PlannedStratum,
    draw_labels,
    expected_changes_from_errors,
    expected_from_errors,
    from_pilot,
    plan_labels,
)
from alignprism.statistics.labelled import VERDICTS, DrawnLabels, drawn_labels
from alignprism.statistics.paired import McNemar, mcnemar_exact, paired_change, paired_mean_change
from alignprism.statistics.pairwise import (
    WinRates,
    flip_rate,
    length_controlled_win_rate,
    position_bias,
    win_rates,
)
from alignprism.statistics.partial_pooling import PooledShare, partially_pooled
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
from alignprism.statistics.repeated_samples import SampleMean, mean_over_samples, rates_of_random_samples
from alignprism.statistics.rogan_gladen import JudgeErrors, errors_of, rogan_gladen
from alignprism.statistics.stratified import Stratum

__all__ = [
    "CONFIDENCE",
    "MIN_CLUSTERS",
    "MIN_RATERS",
    "VERDICTS",
    "Agreement",
    "BiasCell",
    "Calibration",
    "CalibrationBin",
    "CorrectedChange",
    "CorrectedRate",
    "DetectableChange",
    "Draw",
    "DrawnLabels",
    "Equivalence",
    "Estimate",
    "Expected",
    "JudgeAgreement",
    "JudgeErrors",
    "LabelPlan",
    "McNemar",
    "PairStratum",
    "PlannedStratum",
    "PooledShare",
    "SampleMean",
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
    "draw_labels",
    "drawn_labels",
    "effective_pairs",
    "equal_errors",
    "errors_of",
    "expected_calibration_error",
    "expected_changes_from_errors",
    "expected_from_errors",
    "flip_rate",
    "from_pilot",
    "gwet_ac1",
    "holm",
    "judge_agreement",
    "judge_bias",
    "krippendorff_alpha",
    "length_controlled_win_rate",
    "mcnemar_exact",
    "mean_over_samples",
    "paired_change",
    "paired_mean_change",
    "paired_power",
    "partially_pooled",
    "percent_agreement",
    "plan_labels",
    "position_bias",
    "prediction_powered",
    "rate",
    "rate_from_calibration",
    "rater_agreement",
    "rates_of_random_samples",
    "relative_change",
    "rogan_gladen",
    "sensitivity",
    "smallest_detectable_change",
    "specificity",
    "terciles",
    "weighted_rate",
    "win_rates",
]
