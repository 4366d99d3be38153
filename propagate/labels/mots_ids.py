"""Numbers of objects in MOTS: class * 1000 + instance; 10000 is to be ignored.

Source: the annotation format of KITTI MOTS and MOTSChallenge, whose classes are 1 car and
2 pedestrian.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipObject

IGNORE = 10000
PER_CLASS = 1000

_CLASSES = {"car": 1, "pedestrian": 2, "person": 2}
_NAMES = {0: "", 1: "car", 2: "pedestrian"}
_FIRST_FREE = 3
_MAX_NUMBER = 65535


def mots_object(number: int) -> ClipObject:
    """The object that a MOTS file calls `number`, which stays its id."""
    kind = number // PER_CLASS
    return ClipObject(number, category=_NAMES.get(kind, f"class {kind}"))


class MotsIds:
    """Gives objects their MOTS numbers.

    An object without a category, or whose id has its class in it already, keeps its id.

    Args:
        describe: what is known of an object.
    """

    def __init__(self, describe: Callable[[int], ClipObject]) -> None:
        self._describe = describe
        self._numbers: dict[int, int] = {}
        self._classes = dict(_CLASSES)

    def number(self, object_id: int) -> int:
        """The MOTS number of an object.

        Raises:
            LabelError: there is none left for it.
        """
        if object_id not in self._numbers:
            self._numbers[object_id] = self._choose(object_id)
        return self._numbers[object_id]

    @property
    def notes(self) -> list[str]:
        """What was changed."""
        changed = [f"{old} is {new}" for old, new in self._numbers.items() if old != new]
        new = {kind: name for name, kind in self._classes.items() if name not in _CLASSES}
        notes = []
        if changed:
            more = f" and {len(changed) - 8} more" if len(changed) > 8 else ""
            notes.append(f"Objects have other numbers in MOTS: {', '.join(changed[:8])}{more}.")
        if new:
            listed = ", ".join(f"{kind} is {name}" for kind, name in sorted(new.items()))
            notes.append(f"MOTS has no such classes, so they were numbered: {listed}.")
        return notes

    def _choose(self, object_id: int) -> int:
        category = self._describe(object_id).category
        kind = self._class_of(category) if category else object_id // PER_CLASS
        instance = object_id - kind * PER_CLASS
        if not 0 <= instance < PER_CLASS:
            instance = object_id
        taken = set(self._numbers.values()) | {IGNORE, 0}
        wanted = kind * PER_CLASS + instance
        if instance < PER_CLASS and wanted not in taken and wanted <= _MAX_NUMBER:
            return wanted
        free = range(min((kind + 1) * PER_CLASS - 1, _MAX_NUMBER), kind * PER_CLASS, -1)
        for number in free:
            if number not in taken:
                return number
        raise LabelError(
            f"Object {object_id} does not fit into MOTS, which has 65 classes of 999 objects; "
            "choose another format."
        )

    def _class_of(self, category: str) -> int:
        if category not in self._classes:
            named = re.fullmatch(r"class (\d{1,2})", category, re.ASCII)
            used = {*self._classes.values(), IGNORE // PER_CLASS}
            free = next(kind for kind in range(_FIRST_FREE, 1000) if kind not in used)
            self._classes[category] = int(named[1]) if named else free
        return self._classes[category]
