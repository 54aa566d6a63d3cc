"""Taking Flower's tasks in this process: its apps are loaded once, and no code comes by network.

Flower starts a process for every message, which loads the code that the server's run brought along.
Here the process that the operator started takes the tasks itself and runs the app that is
installed, so that a server cannot make a site run anything else, and a model is loaded once.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import context_from_proto, context_to_proto, run_from_proto
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from pfedmoap.engine.flower.places import Address

logger = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
_HEARTBEAT_SECONDS = 10.0


def serve_tasks(
    address: Address,
    secret: bytes,
    app: ClientApp,
    stop: threading.Event,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Run a client app for every message that a SuperNode receives, one after another.

    An answer that cannot be delivered is dropped: the first greeting takes as long as encoding all
    images, and the server may have stopped waiting. It asks again.

    Args:
        address: Where the SuperNode's tasks are taken.
        secret: What that needs.
        app: The app.
        stop: Ends this.
        check: Called between tasks; raises where the SuperNode has ended.
    """
    with _client(address, [_signed(secret)]) as tasks:
        while not stop.is_set():
            check()
            token = _take(tasks, TaskType.CLIENT_APP)
            if token is None:
                stop.wait(_POLL_SECONDS)
                continue
            try:
                with _client(address, [RuntimeTokenHttpInterceptor(token)]) as client:
                    _answer(client, app)
            except Exception as error:  # of Flower, e.g. that nobody waits for it any more
                logger.warning("nobody waits for an answer any more; it is asked again: %s", error)


def _answer(client: RuntimeHttpClient, app: ClientApp) -> None:
    with _beating(client):
        message, context, _, _ = pull_task_input(client)
        status, details = SubStatus.COMPLETED, ""
        try:
            reply = app(message, context)
        except Exception as error:  # whatever it is: this site goes on, and the server is told
            logger.exception("a message was not answered")
            status, details = SubStatus.FAILED, type(error).__name__
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, details), reply_to=message)
        push_message(client, reply, context)
        push_task_output(client, context, status, details)


def run_server(
    address: Address,
    secret: bytes,
    serve: Callable[[HttpGrid], None],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Run the server's loop of the one run that a SuperLink was given.

    Args:
        address: Where the SuperLink is.
        secret: What taking its tasks needs.
        serve: The loop.
        check: Called while there is no run yet; raises where the SuperLink has ended.
    """
    pause = threading.Event()
    with _client(address, [_signed(secret)]) as tasks:
        while (token := _take(tasks, TaskType.SERVER_APP)) is None:
            check()
            pause.wait(_POLL_SECONDS)
    grid = HttpGrid(address.text, address.insecure, address.root_bytes, token=token)
    with _client(address, [RuntimeTokenHttpInterceptor(token)]) as client, _beating(client):
        found = client.PullTaskInput(PullTaskInputRequest())
        TaskIdentity.task_id = found.task_id
        TaskIdentity.run_id = found.run.run_id
        TaskIdentity.node_id = found.context.node_id
        context: Context = context_from_proto(found.context)
        grid.set_run(run_from_proto(found.run))
        status, details = SubStatus.COMPLETED, ""
        try:
            serve(grid)
        except BaseException as error:
            status, details = SubStatus.FAILED, type(error).__name__
            raise
        finally:
            context.state = RecordDict()
            with suppress(httpx.HTTPError):
                client.PushTaskOutput(
                    PushTaskOutputRequest(
                        context=context_to_proto(context), sub_status=status, details=details
                    )
                )
            grid.close()


def _take(tasks: RuntimeHttpClient, kind: TaskType) -> str | None:
    try:
        found = tasks.AcquireTask(AcquireTaskRequest(supported_task_types=[kind]))
    except httpx.TransportError:  # not there yet, or not there any more
        return None
    return found.token if found.HasField("task") and found.token else None


def _signed(secret: bytes) -> SuperExecAuthHttpInterceptor:
    methods = {"/flwr.proto.Runtime/AcquireTask"}
    return SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=methods)


def _client(address: Address, interceptors: list[ProtobufClientInterceptor]) -> RuntimeHttpClient:
    return RuntimeHttpClient.from_server_address(
        address.text,
        address.insecure,
        address.root_bytes,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
            *interceptors,
        ],
    )


@contextmanager
def _beating(client: RuntimeHttpClient) -> Iterator[None]:
    """Tell Flower that a task is being worked on.

    Flower's own thread for that interrupts the whole process where a task is gone.
    """
    done = threading.Event()

    def beat() -> None:
        while not done.wait(_HEARTBEAT_SECONDS):
            with suppress(httpx.HTTPError):
                client.SendTaskHeartbeat(SendTaskHeartbeatRequest())

    thread = threading.Thread(target=beat, daemon=True, name="flower-heartbeat")
    with suppress(httpx.HTTPError):
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
