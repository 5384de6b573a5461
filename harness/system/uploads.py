"""Upload of a folder to the Hub: a new repository is private, and a failed upload leaves the folder as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness.errors import UserError, first_line
from harness.system.hub import call_with_retries
from harness.system.redaction import redact_secrets

Kind = Literal["model", "dataset", "space"]


def check_repository_name(repository: str, flag: str) -> None:
    """Raises UserError for a name that no repository of the Hub can have; `flag` is where the user gave it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"{flag} {repository}: {error}") from None


def check_sign_in(repository: str, flag: str = "--push-to-hub") -> None:
    """Checks the repository's name and the token, before hours are spent; `flag` is where the user gave the name.

    Raises:
        UserError: an invalid repository name, a missing token, or one that the Hub does not accept.
    """
    from huggingface_hub import HfApi, get_token

    check_repository_name(repository, flag)
    if get_token() is None:
        raise UserError(
            f"{flag} {repository}: not signed in to the Hub. Run `hf auth login` or set HF_TOKEN; the token needs "
            "write access."
        )
    try:
        call_with_retries("the Hub", HfApi().whoami)
    except Exception as error:  # the Hub client raises its own kinds and its transport's
        raise UserError(f"{flag} {repository}: cannot sign in to the Hub: {first_line(error)}") from None


def upload(
    folder: Path,
    repository: str,
    message: str = "A model and the record of its run",
    kind: Kind = "model",
    is_private: bool = True,
    flag: str = "--push-to-hub",
) -> str:
    """Uploads the files of a folder as one commit and returns the repository's address; creates it if there is none.

    Args:
        message: that of the commit.
        kind: a space is a static one.
        is_private: a new repository is private; an existing one stays as it is.
        flag: where the user gave the repository's name.

    Raises:
        UserError: the upload failed; the folder is unchanged.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    hub, sdk = HfApi(), "static" if kind == "space" else None
    try:
        created = call_with_retries(
            repository,
            lambda: hub.create_repo(repository, private=is_private, exist_ok=True, repo_type=kind, space_sdk=sdk),
        )
        call_with_retries(
            repository,
            lambda: hub.upload_folder(
                repo_id=created.repo_id, folder_path=folder, commit_message=message, repo_type=kind
            ),
        )
    except Exception as error:  # as above
        fault, details = first_line(error).rstrip(".:").removesuffix(": None"), getattr(error, "server_message", None)
        reason = f"{fault}: {details}" if details and details not in fault else fault
        raise UserError(
            f"{flag} {repository}: the upload failed: {reason}\nNothing is lost. Run the same command to upload again."
        ) from None
    return redact_secrets(str(created))
