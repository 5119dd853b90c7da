"""The words between master and worker, and the bulletin."""

import contextlib
import os
import socket

from edge.seat import MAX_WORD_BYTES, Bulletin, Link, Message, Word


def test_words_arrive_whole_in_order():
    ours, theirs = Link.pair()
    with contextlib.closing(ours), contextlib.closing(theirs):
        assert theirs.receive() == ([], True)
        ours.send(Word.GO)
        ours.send(Word.RELEASE, "0 2")
        ours.send(Word.FAILED, "for a reason of several words")
        assert theirs.receive() == (
            [
                Message(Word.GO),
                Message(Word.RELEASE, "0 2"),
                Message(Word.FAILED, "for a reason of several words"),
            ],
            True,
        )
        theirs.send(Word.READY)
        theirs.close()
        assert ours.receive() == ([Message(Word.READY)], False)
        ours.send(Word.DRAIN)  # nobody is there: no error


def test_a_peer_that_does_not_read_holds_nobody_up():
    ours, theirs = Link.pair()
    with contextlib.closing(ours), contextlib.closing(theirs):
        for _ in range(10_000):
            ours.send(Word.ALIVE)
        ours.send(Word.FAILED, "x" * 2 * MAX_WORD_BYTES)
        messages, is_there = theirs.receive()
        assert is_there
        assert set(messages) == {Message(Word.ALIVE)}


def test_what_is_no_word_is_nothing():
    sock, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = Link(other)
    with sock, contextlib.closing(link):
        for data in (b"later-release x", b"\xff\xfe", b" ", b"failed a\nb\x1b[0m", b"ready"):
            sock.send(data)
        assert link.receive()[0] == [Message(Word.FAILED, "a?b?[0m"), Message(Word.READY)]


def test_a_bulletin_is_read_in_other_processes():
    bulletin = Bulletin()
    bulletin.reloaded(is_successful=True)
    at = bulletin.last_reload_at
    assert at > 0
    pid = os.fork()
    if pid == 0:
        # The master's side, seen from a process that was there before.
        bulletin.reloaded(is_successful=False)
        bulletin.restarted()
        bulletin.restarted()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert not bulletin.last_reload_successful
    assert bulletin.last_reload_at == at
    assert bulletin.restarts == 2
    bulletin.close()
