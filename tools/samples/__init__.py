"""Sample courseware that makes itself: lessons drawn frame by frame, an article, a leaflet; no media is shipped."""

from tools.samples.make import Sample, make_samples

__all__ = ["Sample", "make_samples"]
