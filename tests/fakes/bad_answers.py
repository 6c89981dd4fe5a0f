"""What a node answers that spoils what it sends; with all that learning takes."""

from itertools import cycle

import numpy as np
from flwr.app import Context, Message, RecordDict

from federation.deployment.flower import TaskWorker
from federation.deployment.programs import Program
from federation.node.client_app import build_client_app
from federation.protocol.protocol import ARRAYS, to_record
from gateway.federation.site import open_site
from gateway.settings.config import GatewaySettings
from gateway.storage.engines import opened

FACTORS = (np.nan, 100.0)


def answer_badly(settings: GatewaySettings, program: Program) -> None:
    """Answer as an honest node would, times each of `FACTORS` in turn."""
    np.seterr(all="ignore")
    factors = cycle(FACTORS)
    with opened(settings) as engine:
        honest = build_client_app(open_site(settings, engine))

        def app(message: Message, context: Context) -> Message:
            reply = honest(message=message, context=context)
            if not reply.has_content() or ARRAYS not in reply.content.array_records:
                return reply
            arrays, factor = reply.content.array_records[ARRAYS], next(factors)
            bad = {
                name: (array.numpy() * factor).astype(array.dtype) for name, array in arrays.items()
            }
            return Message(RecordDict({ARRAYS: to_record(bad)}), reply_to=message)

        TaskWorker(program.address, program.secret_file.read_bytes()).serve(app)  # type: ignore[arg-type]
