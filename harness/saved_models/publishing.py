"""Upload of a saved model to the Hub: a new repository is private, and a failed upload leaves the folder as it was."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UserError, first_line
from harness.system.hub import call_with_retries
from harness.system.redaction import redact_secrets


def check_sign_in(repository: str) -> None:
    """Checks the repository's name and the token, before hours are spent.

    Raises:
        UserError: an invalid repository name, a missing token, or one that the Hub does not accept.
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
            f"--push-to-hub {repository}: not signed in to the Hub. Run `hf auth login` or set HF_TOKEN; the token "
            "needs write access."
        )
    try:
        call_with_retries("the Hub", HfApi().whoami)
    except Exception as error:  # the Hub client raises its own kinds and its transport's
        raise UserError(f"--push-to-hub {repository}: cannot sign in to the Hub: {first_line(error)}") from None


def publish(folder: Path, repository: str) -> str:
    """Uploads a saved model and returns its address; creates a private repository if there is none.

    Raises:
        UserError: the upload failed; the folder is unchanged.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    hub = HfApi()
    try:
        created = call_with_retries(repository, lambda: hub.create_repo(repository, private=True, exist_ok=True))
        call_with_retries(
            repository,
            lambda: hub.upload_folder(
                repo_id=created.repo_id, folder_path=folder, commit_message="A model and the record of its run"
            ),
        )
    except Exception as error:  # as above
        raise UserError(
            f"--push-to-hub {repository}: the upload failed: {first_line(error)}\n"
            f"The model is in {folder}, and its record is written. Run the same command to upload again."
        ) from None
    return redact_secrets(str(created))
