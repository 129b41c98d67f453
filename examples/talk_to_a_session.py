"""Send records to a session, and read what it writes."""

from __future__ import annotations

from pydantic import BaseModel

from helmr_provider.client import InputStream, OutputStream, runs, sessions


class Message(BaseModel):
    """A record of the streams."""

    text: str


TO_AGENT = InputStream("messages", Message)
FROM_AGENT = OutputStream("messages", Message)

started = sessions.start("wait-for-input", external_id="chat:42")
session = sessions.open(external_id="chat:42")

# A Message, not a dict of another shape: what does not fit is refused before it is sent.
sent = session.input(TO_AGENT).send(Message(text="hello"), correlation_id="question-1")
print(sent.sequence)  # -> 1
print(runs.wait(started.run, timeout=60).output["message"])  # -> {'text': 'hello'}

answers = session.output(FROM_AGENT)
print([record.data.text for record in answers.iter()])  # -> ['hello']
print(answers.read(after=1))  # -> None
print([stream.direction for stream in session.streams() if stream.name == "messages"])  # -> ['input', 'output']
