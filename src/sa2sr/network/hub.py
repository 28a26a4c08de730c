"""Model folders on the Hugging Face hub, by its conventions: a repository holds the files of one folder.

Files come into the hub's own cache, and from there when there is no network or HF_HUB_OFFLINE is set. HF_HOME, HF_TOKEN
and HF_ENDPOINT say where that is, who asks, and whom; they mean what they mean to every program that uses the hub.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa2sr.errors import ModelError
from sa2sr.network.folder import FOLDER_FILES, SETTINGS_FILE

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
# A Path makes one slash of two.
_NAME = re.compile(rf"(?P<explicit>hf:/{{1,2}})?(?P<user>{_PART})/(?P<model>{_PART})(?:@(?P<revision>.+))?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


@dataclass(frozen=True)
class HubName:
    """``user/model``, ``user/model@revision``, or either after ``hf://``, which says that no folder is meant."""

    user: str
    model: str
    revision: str | None = None  # a branch, a tag or a commit; none: the main branch
    explicit: bool = False

    @staticmethod
    def parse(text: str | Path) -> "HubName | None":
        """None where the text cannot be such a name."""
        found = _NAME.fullmatch(str(text))
        if found is None or ".." in str(text) or "--" in found["user"] + found["model"]:
            return None
        return HubName(found["user"], found["model"], found["revision"], bool(found["explicit"]))

    @property
    def repository(self) -> str:
        """As the hub calls it."""
        return f"{self.user}/{self.model}"

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"

    def at(self, revision: str | None) -> "HubName":
        """The same model at a revision.

        Raises:
            ModelError: if that cannot be one, or the name has another already
        """
        wanted = self.revision if revision is None else revision
        if self.revision not in (None, wanted):
            raise ModelError(f"{self}: is asked for at the revision '{wanted}'; name one of both")
        if wanted is not None and (not _REVISION.fullmatch(wanted) or ".." in wanted):
            raise ModelError(f"{self.repository}: '{wanted[:100]}' cannot be a revision: a branch, a tag or a commit")
        return HubName(self.user, self.model, wanted, self.explicit)


def hub_name(text: str) -> HubName:
    """The name of a repository.

    Raises:
        ModelError: if the text is none
    """
    name = HubName.parse(text)
    if name is None:
        raise ModelError(f"'{text[:200]}' is not the name of a model on the hub, such as user/name")
    return name.at(None)


def fetch(name: HubName, revision: str | None = None) -> Path:
    """The folder of a model in the cache, after what is new has been downloaded.

    Only the files that a model folder has are asked for, whatever else the repository holds.

    Raises:
        ModelError: saying why it is not to be had
    """
    name = name.at(revision)
    hub = _library(str(name))
    from huggingface_hub import errors

    with _explained(name, offline_errors=(errors.LocalEntryNotFoundError,)):
        folder = Path(hub.snapshot_download(name.repository, revision=name.revision, allow_patterns=[*FOLDER_FILES]))
    if not (folder / SETTINGS_FILE).is_file():
        raise ModelError(f"{name}: is on the hub, but not a model of sa2sr, which has {SETTINGS_FILE}")
    return folder


def upload(folder: Path, name: HubName, *, private: bool = False, message: str | None = None) -> str:
    """Make a repository of a model folder, or a new commit in one; returns its address.

    Args:
        folder: of the model
        name: with the branch, if it is not the main one; a branch that does not exist is made
        private: whether a new repository is only for those who are let in
        message: of the commit

    Raises:
        ModelError: saying why the hub does not take it
    """
    api = _library(str(name)).HfApi()
    with _explained(name):
        address = str(api.create_repo(name.repository, private=private, exist_ok=True))
        if name.revision is not None:
            api.create_branch(name.repository, branch=name.revision, exist_ok=True)
        api.upload_folder(
            repo_id=name.repository,
            folder_path=folder,
            revision=name.revision,
            commit_message=message or "A model of sa2sr",
            allow_patterns=[*FOLDER_FILES],
            delete_patterns=[*FOLDER_FILES],  # of an earlier model
        )
    return address if name.revision is None else f"{address}/tree/{name.revision}"


def _library(name: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ModelError(
            f"{name}: does not exist here, and models on the hub need huggingface_hub: pip install 'sa2sr[hub]'"
        ) from None
    return huggingface_hub


@contextmanager
def _explained(name: HubName, offline_errors: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Errors of the hub as one line with a remedy."""
    from huggingface_hub import errors

    log_in = "if it is private, log in with 'hf auth login' or set HF_TOKEN"
    try:
        yield
    except errors.GatedRepoError:
        raise ModelError(f"{name}: is open only to those who ask for it on its page on the hub; {log_in}") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(f"{name}: is neither a folder here nor a model on the hub; {log_in}") from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{name.repository}: has no revision '{name.revision}' on the hub") from None
    except (errors.OfflineModeIsEnabled, *offline_errors):
        raise ModelError(
            f"{name}: is neither a folder here nor complete in the cache of the hub, and the hub cannot be asked "
            "(no network, or HF_HUB_OFFLINE is set)"
        ) from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        remedy = "; log in with 'hf auth login', or set HF_TOKEN" if status in (401, 403) else ""
        raise ModelError(f"{name}: the hub refuses ({_first_line(error)}){remedy}") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name}: the hub cannot be used ({_first_line(error)})") from None
    except Exception as error:  # of the HTTP library, which is another in each version of the hub's
        if not type(error).__module__.startswith(("httpx", "requests", "urllib3")):
            raise
        raise ModelError(f"{name}: the hub cannot be reached ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
