"""Results to one page. The report computes nothing: it words, draws and tabulates what ``results.json`` says."""

from alignprism.report.page import ReportError, render_report, write_report
from alignprism.report.samples import Sample, render_samples, write_samples

__all__ = ["ReportError", "Sample", "render_report", "render_samples", "write_report", "write_samples"]
