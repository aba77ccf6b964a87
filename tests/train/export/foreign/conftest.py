"""The fixtures with which models of every framework are converted and asked."""

from tests.train.export.foreign.asked import ask, refuse

__all__ = ["ask", "refuse"]
