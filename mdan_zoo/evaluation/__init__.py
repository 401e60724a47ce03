"""Evaluation: metrics of models on labelled datasets, reports, and published results.

from mdan_zoo.evaluation import evaluate, find_samples, write_report

predictor = Predictor("mdan_oasis4")
samples, source = find_samples("OASIS", folder, predictor.hierarchy)
evaluation = evaluate(predictor, samples, source=source)
evaluation.score("accuracy", "polarity")  # Score(..., value=0.75, low=0.71, high=0.79, ...)
write_report(evaluation, output)
"""

from mdan_zoo.evaluation.probabilities import Probabilities as Probabilities
from mdan_zoo.evaluation.report import write_report as write_report
from mdan_zoo.evaluation.results import Evaluation as Evaluation
from mdan_zoo.evaluation.results import Score as Score
from mdan_zoo.evaluation.results import evaluate as evaluate
from mdan_zoo.evaluation.source import SampleSource as SampleSource
from mdan_zoo.evaluation.source import find_samples as find_samples
