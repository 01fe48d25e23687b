"""Judge prompts are files: jinja2 templates, sandboxed, filled with texts that cannot speak to the judge.

Every judged text reaches a template as a *block*: the text between two lines that carry a mark made from a hash of the
texts themselves. Nobody who writes a prompt or an answer can know that mark, so no text can close its own block; the
template says that what stands inside is material, never an instruction. Control tokens of chat formats
(``<|im_end|>``, ``<start_of_turn>``, ``[INST]``, ``<think>``) are broken by a space, because a tokenizer would take them
for turns of the conversation.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from alignprism.errors import InputError

FOLDER = Path(__file__).parent / "templates"
_MARK_LENGTH = 12
_CONTROL_NAMES = (
    "s|/s|bos|eos|pad|unk|think|/think|thinking|/thinking|reasoning|/reasoning|start_of_turn|end_of_turn|"
    "start_of_image|tool_call|/tool_call|sep|cls|mask"
)
_CONTROL = re.compile(
    rf"<(?=\|)|(?<=\|)(?=>)|<(?=(?:{_CONTROL_NAMES})>)|<(?=<SYS>>|</SYS>>)|\[(?=/?INST\])", re.IGNORECASE
)


class JudgeTemplateError(InputError):
    """A template cannot be used. The message names file and line, and what is wrong."""


def mark_of(*texts: str) -> str:
    """The mark of the blocks that hold these texts: found in none of them, the same for the same texts."""
    salt = 0
    while True:
        content = "\x1f".join((str(salt), *texts))
        mark = hashlib.sha256(content.encode()).hexdigest()[:_MARK_LENGTH]
        if not any(mark in text for text in texts):
            return mark
        salt += 1


def without_control(text: str) -> str:
    """The text with control tokens of chat formats broken by a space; everything else is unchanged."""
    return _CONTROL.sub(lambda match: f"{match[0]} ", text)


def block(name: str, text: str, mark: str) -> str:
    """A text as material: ``name`` says what it is."""
    return f"<<<{name} {mark}>>>\n{without_control(text)}\n<<<END OF {name} {mark}>>>"


@dataclass(frozen=True, slots=True)
class JudgeTemplate:
    """A loaded template. ``digest`` is the sha256 (hex) of its bytes."""

    path: Path
    digest: str
    _template: Template = field(repr=False, compare=False)

    def render(self, values: Mapping[str, object]) -> str:
        """The filled template, without white space around it.

        Raises
        ------
        JudgeTemplateError
            a variable is missing, or the template does something that the sandbox forbids.
        """
        try:
            return self._template.render(values).strip()
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            line = _line_of(error, self.path)
            hint = f"; variables: {', '.join(sorted(values))}" if isinstance(error, UndefinedError) else ""
            hint = "; templates may only format what they are given" if isinstance(error, SecurityError) else hint
            raise JudgeTemplateError(f"{self.path}:{line}: {error}{hint}") from error


def load_template(path: Path) -> JudgeTemplate:
    """Read a template file.

    Raises
    ------
    JudgeTemplateError
        no such file, not UTF-8, or not a jinja2 template.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JudgeTemplateError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except OSError as error:
        raise JudgeTemplateError(f"{path}: this template cannot be read ({error.strerror})") from error
    # Texts are data for a model, not for a browser: escaping would change what is judged.
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)
    try:
        code = environment.compile(text, name=str(path), filename=str(path))
    except TemplateSyntaxError as error:
        raise JudgeTemplateError(f"{path}:{error.lineno}: {error.message}") from error
    template = Template.from_code(environment, code, environment.make_globals(None), None)
    return JudgeTemplate(path, hashlib.sha256(data).hexdigest(), template)


@cache
def shipped(name: str) -> JudgeTemplate:
    """A template of this package, by its path without suffix (``harm/en``)."""
    return load_template(FOLDER / f"{name}.jinja")


def shipped_languages(kind: str) -> tuple[str, ...]:
    """The languages in which templates of a kind ship."""
    return tuple(sorted(path.stem for path in (FOLDER / kind).glob("??.jinja")))


def _line_of(error: BaseException, path: Path) -> int:
    """The line of the template where it happened: jinja2 puts its lines into the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 1 for frame in reversed(frames) if frame.filename == str(path)), 1)
