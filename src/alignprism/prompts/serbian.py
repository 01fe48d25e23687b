"""The letters of Serbian: each Cyrillic one and what stands for it in Latin script. Lower case."""

from __future__ import annotations

_CYRILLIC = "абвгдђежзијклљмнњопрстћуфхцчџш"
_LATIN = "a b v g d đ e ž z i j k l lj m n nj o p r s t ć u f h c č dž š"
TO_LATIN = dict(zip(_CYRILLIC, _LATIN.split(" "), strict=True))
