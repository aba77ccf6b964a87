"""serve.process.link: what is sent at one end arrives typed at the other, until either is gone."""

import asyncio
import socket

from serve.config import ServerConfig, from_texts, to_texts
from serve.process.link import Link, Message, Serving, Start


async def exchange(messages: list[Message]) -> list[Message]:
    """What arrives of some messages, up to the end that their sender makes."""
    ours, theirs = socket.socketpair()
    sender, receiver = await Link.over(ours), await Link.over(theirs)
    for message in messages:
        sender.send(message)
    sender.close()
    found = [message async for message in receiver.receive()]
    receiver.close()
    return found


def test_messages_arrive_in_order_with_their_types() -> None:
    messages: list[Message] = [Start(to_texts(ServerConfig()), 3, 7), Serving(["mnist", "имя"]), Serving([])]
    assert asyncio.run(exchange(messages)) == messages


def test_settings_arrive_with_the_types_that_they_had() -> None:
    (found,) = asyncio.run(exchange([Start(to_texts(ServerConfig()), 0, 0)]))
    assert isinstance(found, Start)
    assert from_texts(found.settings) == ServerConfig()


def test_a_message_to_nobody_is_dropped() -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        link = await Link.over(ours)
        theirs.close()
        for _ in range(3):
            link.send(Serving([]))
            await asyncio.sleep(0.01)
        link.close()
        link.send(Serving([]))

    asyncio.run(scenario())
