"""Speech from text without a corpus: a small binding to espeak-ng through its C interface.

The extra ``demo`` brings the engine, its dictionaries and about a hundred voice variants as a wheel. Text goes to the
engine as UTF-8 through memory, never through a command line.

espeak-ng carries state from one utterance to the next: the position in its table of pitch flutter, the gain control,
the phases of roughness, resonators, random numbers. The same sentence therefore sounds a little different whatever is
done through its interface. Here every call gets a fresh image of the library (loaded, seeded, used, unloaded; about
4 ms), so the same call gives the same samples, whatever was spoken before, in whichever process. This holds for all
variants, breathing and whispering ones included; only another release of the engine, or for the few variants of its
"speech player" another C library, may sound different.
"""

import ctypes
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sa2sr.errors import SynthesisError, UserError

MAX_CHARACTERS = 5_000  # of a text
MAX_SECONDS = 900.0  # of speech from one text

# Constants of espeak-ng/speak_lib.h
_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_UTF8 = 1  # alone: neither SSML nor phonemes are looked for in the text
_POSITION_CHARACTER = 1
_PARAMETERS = {"rate_wpm": 1, "volume": 2, "pitch": 3, "pitch_range": 4}

_SEED = 1  # of the engine's noise
_MAX_DATA_PATH = 120  # bytes; the engine cuts paths at 160, names of voices included
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # espeak-ng takes commands after a control-A

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_one_at_a_time = threading.Lock()  # the engine lives once in a process


@dataclass(frozen=True)
class Prosody:
    """How a text is spoken."""

    rate_wpm: int = 175  # words a minute, 80 to 450
    pitch: int = 50  # of the voice, 0 to 99; 50 is the voice's own
    pitch_range: int = 50  # 0 (monotonous) to 99; 50 is the voice's own
    volume: int = 70  # 10 to 100, proportional to the amplitude in coarse steps

    def __post_init__(self) -> None:
        limits = {"rate_wpm": (80, 450), "pitch": (0, 99), "pitch_range": (0, 99), "volume": (10, 100)}
        for field in fields(self):
            value, (low, high) = getattr(self, field.name), limits[field.name]
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise SynthesisError(f"{field.name} must be a whole number from {low} to {high}, not {value!r}")


@dataclass(frozen=True)
class Variant:
    """A voice of espeak-ng: a vocal tract and a manner, to be combined with a language."""

    name: str
    gender: Literal["male", "female"] | None  # as its file says; many say nothing


def speak(text: str, voice: str = "en-us", prosody: Prosody | None = None) -> tuple[NDArray[np.float32], int]:
    """Speak a text.

    Args:
        text: plain text; ``<``, ``&``, ``[[`` and a leading ``-`` have no special meaning, control characters are
            read as spaces
        voice: a language, or a language and a variant: ``"en-us"``, ``"en-gb+f3"``; see :func:`languages` and
            :func:`variants`
        prosody: rate, pitch, pitch range and volume; the engine's usual ones by default

    Returns:
        samples (n,) float32, -1 to 1, and the sampling rate in Hz

    Raises:
        SynthesisError: if the voice is unknown, the text is longer than ``MAX_CHARACTERS``, or nothing in it can be
            spoken
        UserError: if espeak-ng is not installed
    """
    name = _voice_file(voice)
    if len(text) > MAX_CHARACTERS:
        raise SynthesisError(f"the text has {len(text):,} characters; at most {MAX_CHARACTERS:,} are spoken at once")
    encoded = _CONTROL.sub(" ", text).encode()
    chunks: list[bytes] = []
    with _one_at_a_time, _fresh_engine() as (engine, sampling_rate):
        room = round(MAX_SECONDS * sampling_rate)

        def receive(samples: Any, count: int, _events: Any) -> int:
            nonlocal room
            if samples and count > 0:
                chunks.append(ctypes.string_at(samples, 2 * count))
                room -= count
            return int(room < 0)  # 1 stops the engine

        callback = _Callback(receive)
        engine.espeak_SetSynthCallback(callback)
        if engine.espeak_SetVoiceByName(name.encode()) != 0:
            raise SynthesisError(f"espeak-ng cannot load its voice {_quoted(voice)}; reinstall espeakng-loader")
        for field, number in _PARAMETERS.items():
            engine.espeak_SetParameter(number, getattr(prosody or Prosody(), field), 0)
        status = engine.espeak_Synth(encoded, len(encoded) + 1, 0, _POSITION_CHARACTER, 0, _UTF8, None, None)
    if status != 0:
        raise SynthesisError(f"espeak-ng could not speak {_quoted(text)} (status {status})")
    if room < 0:
        raise SynthesisError(f"{_quoted(text)} takes more than {MAX_SECONDS:g} s to speak")
    samples = np.frombuffer(b"".join(chunks), np.int16)
    if not samples.any():
        raise SynthesisError(f"{_quoted(text)} holds nothing that can be spoken")
    return samples.astype(np.float32) / np.float32(32768), sampling_rate


def languages(prefix: str = "en") -> list[str]:
    """The languages that begin with ``prefix``, such as ``en-us`` and ``en-gb-scotland``, sorted."""
    return sorted(name for name in _voice_files() if name.startswith(prefix))


@lru_cache
def variants() -> dict[str, Variant]:
    """The voice variants by name, sorted.

    Raises:
        UserError: if espeak-ng is not installed
    """
    folder = Path(_installation()[1]) / "voices" / "!v"
    return {path.name: Variant(path.name, _gender(path)) for path in sorted(folder.iterdir()) if path.is_file()}


class _VoiceDescription(ctypes.Structure):
    """The beginning of ``espeak_VOICE``; the engine hands out pointers, so the rest is not needed."""

    _fields_ = [("name", ctypes.c_char_p), ("languages", ctypes.c_char_p), ("identifier", ctypes.c_char_p)]


@lru_cache
def _voice_files() -> dict[str, str]:
    """The file of each language, such as gmw/en-US of en-us: only with it does the engine find all variants."""
    files: dict[str, str] = {}
    with _one_at_a_time, _fresh_engine() as (engine, _):
        engine.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceDescription))
        for entry in engine.espeak_ListVoices(None):
            if not entry:  # the list ends with a null pointer
                break
            language = entry.contents.languages[1:].decode()  # after a byte of priority
            files.setdefault(language, entry.contents.identifier.decode())
    return files


def _voice_file(voice: str) -> str:
    """The engine's name of a voice.

    The engine falls back silently where it knows no variant of a name, and would follow ``..`` to other files.
    """
    language, plus, variant = voice.partition("+")
    if language not in _voice_files():
        near = ", ".join(get_close_matches(language, _voice_files(), cutoff=0))
        raise SynthesisError(f"espeak-ng has no voice {_quoted(voice)}; it has {len(_voice_files())}, such as {near}")
    if plus and variant not in variants():
        near = ", ".join(get_close_matches(variant, variants(), cutoff=0))
        raise SynthesisError(f"espeak-ng has no variant {_quoted(variant)}; it has {len(variants())}, such as {near}")
    return _voice_files()[language] + plus + variant


def _gender(path: Path) -> Literal["male", "female"] | None:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.lower().split()
        if len(words) >= 2 and words[0] == "gender" and words[1] in ("male", "female"):
            return "female" if words[1] == "female" else "male"
    return None


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


# --- The library ------------------------------------------------------------------------------------------------------


@contextmanager
def _fresh_engine() -> Iterator[tuple[Any, int]]:
    """The engine in the state in which it was shipped, and its sampling rate in Hz; unloaded at the end."""
    library, data = _installation()
    _refuse_if_loaded(library)
    try:
        engine = ctypes.CDLL(library)
    except OSError as error:
        raise UserError(f"{library}: cannot be loaded ({error}); reinstall espeakng-loader") from None
    try:
        sampling_rate = engine.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(_short_path(data)), _DO_NOT_EXIT)
        if sampling_rate <= 0:
            raise UserError(f"{data}: espeak-ng cannot read its data; reinstall espeakng-loader")
        try:
            engine.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
            _c_library().srand(_SEED)
            yield engine, sampling_rate
        finally:
            engine.espeak_Terminate()
    finally:
        _unload(engine)


@lru_cache
def _installation() -> tuple[str, str]:
    """The paths of the library and of its data."""
    try:
        import espeakng_loader
    except ImportError:
        raise UserError('speaking needs espeak-ng, which is not installed; remedy: pip install "sa2sr[demo]"') from None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())


@lru_cache
def _short_path(data: str) -> str:
    """The data folder under a name that the engine does not cut off: a symbolic link where its own is too long."""
    if len(os.fsencode(data)) <= _MAX_DATA_PATH:
        return data
    folder = tempfile.TemporaryDirectory(prefix="espeak-")
    _links.append(folder)  # removed when the process ends
    link = os.path.join(folder.name, "data")
    try:
        if len(os.fsencode(link)) > _MAX_DATA_PATH:
            raise OSError(f"{tempfile.gettempdir()} is long too")
        os.symlink(data, link, target_is_directory=True)
    except OSError as error:
        raise UserError(
            f"{data}: too long a path for espeak-ng (more than {_MAX_DATA_PATH} bytes), and no link to it can be made "
            f"({error}); install into a shorter path or set TMPDIR to a short one"
        ) from None
    return link


_links: list["tempfile.TemporaryDirectory[str]"] = []


def _refuse_if_loaded(library: str) -> None:
    """Another user of the library in this process would share its state with us."""
    if sys.platform == "win32":
        return
    try:
        ctypes.CDLL(library, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return
    raise UserError(f"{library}: is in use by another package in this process; speak in a process of its own")


def _unload(engine: Any) -> None:
    if sys.platform == "win32":
        ctypes.windll.kernel32.FreeLibrary(ctypes.c_void_p(engine._handle))
    else:
        _c_library().dlclose(ctypes.c_void_p(engine._handle))


@lru_cache
def _c_library() -> Any:
    return ctypes.cdll.ucrtbase if sys.platform == "win32" else ctypes.CDLL(None)
