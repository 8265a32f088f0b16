"""The predictor under the name that notebooks import: `from utils.predictor import ChangePredictor`."""

from utils.prediction.predictor import ChangePredictor as ChangePredictor
