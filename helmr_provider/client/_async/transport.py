"""From endpoints to answers: builds the request, repeats it where that is safe, reads the answer."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from tenacity import AsyncRetrying

from helmr_provider.client._retry import call_options, pending_options
from helmr_provider.client._unasync_pairs import async_sleep
from helmr_provider.client._wire.endpoints import ENDPOINTS
from helmr_provider.client._wire.requests import build_request
from helmr_provider.client._wire.responses import error_from, parse_response
from helmr_provider.client._wire.sse import EventParser
from helmr_provider.client.errors import HelmrError, HelmrProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from helmr_provider.client._http import AsyncHttp, AsyncResponse
    from helmr_provider.client._secrets import Secret
    from helmr_provider.client._unasync_pairs import AsyncStream
    from helmr_provider.client._wire.endpoints import Endpoint
    from helmr_provider.client._wire.requests import Context, Request
    from helmr_provider.client._wire.sse import ServerSentEvent
    from helmr_provider.client.durations import Duration


class AsyncTransport:
    """Calls and streams on behalf of one context.

    :param http: connections, shared between the views of a client.
    :param context: credential, environment, and how calls are repeated.
    """

    def __init__(self, http: AsyncHttp, context: Context) -> None:
        self.http = http
        self.context = context

    async def call(
        self,
        operation: str,
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        credential: Secret | None = None,
        url: Secret | None = None,
        max_body: int | None = None,
        timeout: Duration | None = None,
    ) -> Any:
        """Send one operation and return the JSON value of its answer.

        :param content: the body in its encoded form, if the caller has it.
        :param max_body: bytes that the answer may have; None for the client's own limit.
        :param timeout: what ``with_options(timeout=)`` takes, for this call; None for the client's own limit.
        :raises HelmrApiError: the server refused.
        :raises HelmrConnectionError: the server was not reached, or did not answer.
        :raises HelmrProtocolError: the answer is not JSON.
        """
        endpoint = ENDPOINTS[operation]
        request = build_request(
            self.context.with_timeout(timeout),
            endpoint,
            path=path or {},
            query=query or {},
            body=body,
            content=content,
            credential=credential,
            url=url,
            max_body=max_body,
        )
        deadline = time.monotonic() + request.limit
        repeatable = endpoint.repeatable(body)
        if not endpoint.pending:
            return await self._repeat(endpoint, request, repeatable, deadline)
        again = AsyncRetrying(sleep=async_sleep, **pending_options(deadline))
        return await again(self._repeat, endpoint, request, repeatable, deadline)

    async def _repeat(self, endpoint: Endpoint, request: Request, repeatable: bool, deadline: float) -> Any:  # noqa: FBT001 - tenacity passes arguments on by position
        # tenacity takes a third of the CPU time of a call: only a call that has failed pays for it.
        try:
            return await self._once(endpoint, request, deadline)
        except HelmrError as error:
            failed = [error]
        options = call_options(self.context.backoff, repeatable=repeatable, deadline=deadline)
        return await AsyncRetrying(sleep=async_sleep, **options)(self._again, failed, endpoint, request, deadline)

    async def _again(self, failed: list[HelmrError], endpoint: Endpoint, request: Request, deadline: float) -> Any:
        """Fail as the first attempt did, which tenacity has not seen, then send the request again."""
        if failed:
            raise failed.pop()
        return await self._once(endpoint, request, deadline)

    async def _once(self, endpoint: Endpoint, request: Request, deadline: float) -> Any:
        answer = await self.http.send(request, deadline)
        return parse_response(endpoint, answer, time.time(), request.credential)

    async def events(
        self,
        operation: str,
        *,
        path: Mapping[str, str],
        query: Mapping[str, Any],
        on_open: Callable[[AsyncResponse], None] | None = None,
    ) -> AsyncStream[ServerSentEvent | None]:
        """Open one stream and yield its events until the server ends it. Nothing is repeated here.

        None is yielded after each chunk, so that the caller can check the clock however little the stream says.

        :param on_open: called with the response.
        :raises HelmrApiError: the server refused.
        :raises HelmrConnectionError: the server was not reached, or the stream broke off or fell silent.
        :raises HelmrProtocolError: an event is too large, or the answer is not a stream.
        """
        endpoint = ENDPOINTS[operation]
        request = build_request(self.context, endpoint, path=path, query={**query, "follow": "1"}, body=None)
        async with contextlib.aclosing(await self.http.open(request)) as response:
            if response.status != 200:
                answer = await self.http.read_error(response)
                raise error_from(endpoint, answer, time.time(), request.credential)
            if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                raise HelmrProtocolError(
                    f"{operation} was not answered with an event stream. "
                    "Check that the address is the one of a Helmr control plane.",
                    operation=operation,
                )
            if on_open is not None:
                on_open(response)
            parser = EventParser()
            async with contextlib.aclosing(response.chunks()) as chunks:
                async for chunk in chunks:
                    for event in parser.feed(chunk):
                        yield event
                    yield None
            for event in parser.close():
                yield event
