"""The protocol log of an account's connections to its mail servers, for finding the cause of errors."""

from __future__ import annotations

from app.api.deps import SettingsAccount
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.protocol_log import ProtocolLog, StartLog
from app.api.services import TracesService
from app.errors import InvalidRequest

router = Router(prefix="/v1/accounts/{account_id}/log", tags=["accounts"])


@router.get("", operation_id="getProtocolLog")
async def get_protocol_log(account_id: SettingsAccount, traces: TracesService) -> ProtocolLog:
    """Get the last 500 lines of IMAP, POP3 and SMTP with the account's servers, as this process recorded them.

    They contain no secrets and no message text. Recording is off until it is started.
    """
    return ProtocolLog.of(*traces.of(account_id))


@router.post("", operation_id="startProtocolLog", responses=problems(InvalidRequest))
async def start_protocol_log(account_id: SettingsAccount, body: StartLog, traces: TracesService) -> ProtocolLog:
    """Start recording, for the given number of minutes, in memory. Open connections are recorded too."""
    traces.start(account_id, body.minutes * 60)
    return ProtocolLog.of(*traces.of(account_id))


@router.delete("", operation_id="stopProtocolLog", status_code=204)
async def stop_protocol_log(account_id: SettingsAccount, traces: TracesService) -> None:
    """Stop recording, and delete what was recorded."""
    traces.stop(account_id)
