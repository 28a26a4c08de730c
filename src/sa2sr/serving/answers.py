"""What clients ask for and get: the options of a request and the forms of an answer."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import JSONResponse, Response

from sa2sr.config import Scale
from sa2sr.errors import ModelError
from sa2sr.inference.model import LONGEST, Model
from sa2sr.inference.table import EXTRAS, Failure, Heading, Row, on_scale
from sa2sr.inference.windows import LONGEST_WINDOW, Windows
from sa2sr.serving.refusals import RefusalError

_LONGEST_HEADER = 4096  # bytes; clients and proxies take 8 KiB of headers at least


class Form(BaseModel):
    """How the numbers of an answer are given."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    window: float | None = Field(None, gt=0, le=LONGEST_WINDOW, description="Seconds of a row; whole files without it.")
    hop: float | None = Field(None, gt=0, description="Seconds from a window to the next; they do not overlap without.")
    scale: Literal["labels", "0-1"] = Field("labels", description="That of the ratings, or from 0 to 1.")
    level: float | None = Field(None, ge=0, lt=1, description="Share of ratings in the intervals; 0: no intervals.")
    transcript: bool = Field(False, description="Also what is said, as far as the model hears it.")
    sentiment: bool = Field(False, description="Also the probabilities that it is negative, neutral and positive.")

    def heading(self, model: Model) -> Heading:
        """What the rows of an answer are.

        Raises:
            RefusalError: 422, if the model has no such intervals, or does not hear that
        """
        try:
            return model.heading(self.scale, self.level, transcript=self.transcript, sentiment=self.sentiment)
        except ModelError as error:
            raise RefusalError(422, "bad_request", str(error)) from None


class Options(Form):
    """The query of a request."""

    longest: float = Field(LONGEST, ge=1, le=LONGEST_WINDOW, description="Seconds of a row at most, without windows.")
    format: Literal["json", "csv", "jsonl"] = Field("json", description="Of the answer.")
    name: str = Field("", description="Of a file that is sent as the body itself.")

    @model_validator(mode="after")
    def _windows_make_sense(self) -> Self:
        Windows.of(self.window, self.hop)
        return self

    @property
    def windows(self) -> Windows | None:
        """The windows that are asked for, if any."""
        return Windows.of(self.window, self.hop)


class TooLong(Failure):
    """A file with more audio than the server takes."""


class Answer:
    """Rows on their way to a client, and what could not be predicted."""

    def __init__(self, heading: Heading) -> None:
        self.heading = heading
        self.rows: list[dict[str, Any]] = []
        self.failures: list[Failure] = []

    def row(self, row: Row) -> dict[str, Any]:
        """A row by column."""
        return self.heading.values(row)

    def add(self, results: Sequence[Row | Failure], file: str, scale: Scale) -> None:
        """Take rows, which are on ``scale``, and failures of a file under the name that the client gave it."""
        for each in results:
            if isinstance(each, Row):
                self.rows.append(self.row(replace(on_scale(each, scale, self.heading.scale), file=file)))
            else:
                self.failures.append(replace(each, file=file))

    def described(self) -> dict[str, Any]:
        """What the numbers are."""
        heading = self.heading
        return {"model": heading.model, "scale": heading.scale.model_dump(), "level": heading.level or None}

    def response(self, format_: str) -> Response:
        """The answer over HTTP.

        Raises:
            RefusalError: 422 or 413, if nothing could be predicted
        """
        if self.failures and not self.rows:
            reasons = "; ".join(f"{each.file}: {each.reason}" for each in self.failures)
            if all(isinstance(each, TooLong) for each in self.failures):
                raise RefusalError(413, "too_long", reasons)
            raise RefusalError(422, "bad_audio", reasons)
        failures = [{"file": each.file, "reason": each.reason} for each in self.failures]
        if format_ == "json":
            return JSONResponse({**self.described(), "rows": self.rows, "failures": failures})
        # Tables have no place for what concerns all rows, so headers say it; these are ASCII.
        headers = {
            "SA2SR-Scale": f"{self.heading.scale.low:g}-{self.heading.scale.high:g}",
            "SA2SR-Level": f"{self.heading.level:g}",
            "SA2SR-Failures": _fitting(failures),
            "SA2SR-Failure-Count": str(len(failures)),
            "Content-Disposition": f'attachment; filename="emotions.{format_}"',
        }
        if format_ == "csv":
            return Response(self._csv(), media_type="text/csv; charset=utf-8", headers=headers)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        return Response(lines, media_type="application/jsonl", headers=headers)

    def _csv(self) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.heading.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()


def _fitting(failures: Sequence[dict[str, str]]) -> str:
    """As many of the first failures as a header holds, in JSON: clients stop reading headers somewhere."""
    size, fitting = len("[]"), list[str]()
    for text in map(json.dumps, failures):
        size += len(text) + len(", ")
        if size > _LONGEST_HEADER:
            break
        fitting.append(text)
    return f"[{', '.join(fitting)}]"


def heard(model: Model) -> list[str]:
    """What the model hears beside emotions."""
    return [extra for extra in EXTRAS if _hears(model, extra)]


def _hears(model: Model, extra: str) -> bool:
    try:
        return bool(model.extras(**{extra: True}))
    except ModelError:
        return False


_ROW = {"file": "call.wav", "start": 0.0, "end": 6.0, "activation": 4.91, "valence": 3.27, "dominance": 4.6, "note": ""}
_EXAMPLE = {
    "model": "sa2sr",
    "scale": {"name": "1-7", "low": 1, "high": 7},
    "level": None,
    "rows": [_ROW, _ROW | {"start": 2.0, "end": 7.4, "activation": 4.12, "valence": 3.6, "dominance": 4.3}],
    "failures": [],
}
_ERROR = {"error": {"code": "bad_audio", "message": "call.wav: is not audio that libsndfile can read"}}
_TABLE = ",".join(_ROW) + "\n" + ",".join(map(str, _ROW.values())) + "\n"
_FILE = {"type": "string", "format": "binary"}

ERRORS = {
    400: "There is no audio in the request, or it is not well formed.",
    401: "The token is missing or wrong.",
    408: "The body came too slowly.",
    413: "The body or the audio is too large.",
    422: "The options make no sense, or the audio cannot be decoded.",
    503: "The server is busy; Retry-After says in how many seconds to try again.",
}


def documented(*, several: bool) -> dict[str, Any]:
    """OpenAPI's description of a request with uploads and of its answers, with examples."""
    field = {"type": "array", "items": _FILE} if several else _FILE
    form = {"schema": {"type": "object", "properties": {"files" if several else "file": field}}}
    bodies = {"multipart/form-data": form} | ({} if several else {"audio/*": {"schema": _FILE}})
    answers: dict[str, Any] = {
        "200": {
            "description": "A row for each file or window, in their order; numbers are on the scale.",
            "content": {
                "application/json": {"example": _EXAMPLE},
                "text/csv": {"example": _TABLE},
                "application/jsonl": {"example": json.dumps(_ROW) + "\n"},
            },
        }
    }
    for status, description in ERRORS.items():
        answers[str(status)] = {"description": description, "content": {"application/json": {"example": _ERROR}}}
    return {"requestBody": {"required": True, "content": bodies}, "responses": answers}
