"""A model of ours on the Hub: when asked only, private unless it is there already, and lost by no failure."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UserError
from harness.system.hub import persistently


def check_sign_in(repository: str) -> None:
    """Proves, before hours are spent, that the name is one and that somebody is signed in.

    Raises:
        UserError: it is no name of a repository, nobody is signed in, or the Hub does not know the token.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"--push-to-hub {repository}: {error}") from None
    if get_token() is None:
        raise UserError(
            f"--push-to-hub {repository}: nobody is signed in to the Hub here. `hf auth login` signs in, or set "
            "HF_TOKEN; the token needs the right to write."
        )
    try:
        persistently("the Hub", HfApi().whoami)
    except Exception as error:  # the Hub client raises its own and its transport's kinds
        raise UserError(f"--push-to-hub {repository}: cannot sign in to the Hub: {_first_line(error)}") from None


def publish(folder: Path, repository: str) -> str:
    """The address of the model after its upload. A repository that is not there yet is made, privately.

    Raises:
        UserError: the upload failed; the folder is as it was.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    hub = HfApi()
    try:
        place = persistently(repository, lambda: hub.create_repo(repository, private=True, exist_ok=True))
        persistently(
            repository,
            lambda: hub.upload_folder(
                repo_id=place.repo_id, folder_path=folder, commit_message="A model and the record of its run"
            ),
        )
    except Exception as error:  # as above
        raise UserError(
            f"--push-to-hub {repository}: the upload failed: {_first_line(error)}\n"
            f"Nothing is lost: the model is in {folder}, and its record is written. The same command tries again."
        ) from None
    return str(place)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
