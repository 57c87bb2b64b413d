"""Looks at a worker's sockets: the one at which it listens, and those that could take the place of its output."""

import logging
import os
import socket

import torchremote as tr
from torchremote.group import join as joining
from torchremote.group.hub import split_address

from ..waiting import until
from . import roles
from .nursery import in_a_group


@in_a_group()
def test_a_worker_to_which_nobody_can_connect_any_more_says_so_once(nursery):
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("torchremote").addHandler(handler)
    nursery.join("ps")
    assert roles.add("ps") == 2
    listens_at = split_address(joining._membership._agent.own.url.partition("://")[2])
    socket.create_connection(listens_at).close()  # as who dies just then, or a port scan
    until(lambda: said)
    assert "torch has closed the port at which 'main' takes connections" in said[0]
    assert "Start this worker again" in said[0]
    nursery.join("other")  # the hub's messages have it look again
    assert roles.add("ps") == 2
    assert len(said) == 1
    tr.leave()
    assert len(said) == 1


@in_a_group(name=None)
def test_no_socket_takes_the_place_of_a_closed_standard_file(nursery):
    os.close(0)
    tr.join("main", shared_memory=False)
    assert os.readlink("/proc/self/fd/0") == os.devnull
