"""The study file: one typed model of what is to be done, with errors that name file, line and key.

`load` reads YAML, applies ``--set`` overrides, checks everything that can be checked without touching a model, and
returns a `Study`. Nothing downstream looks at raw YAML. `dump` writes every default out, which is what ``init`` does.
"""

from alignprism.study.reading import load, parse
from alignprism.study.settings import MERGES, METHODS, SAMPLE, Judges, Method, ModelEntry, Study, StudyError
from alignprism.study.writing import dump, keys

__all__ = [
    "MERGES",
    "METHODS",
    "SAMPLE",
    "Judges",
    "Method",
    "ModelEntry",
    "Study",
    "StudyError",
    "dump",
    "keys",
    "load",
    "parse",
]
