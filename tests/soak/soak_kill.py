"""500 messages, while filters, pipe(8) and sendmail(1) are killed, and Postfix stops and starts again."""

from __future__ import annotations

import os
import random
import time

import mailstorm
from conftest import Keys

MESSAGES = int(os.environ.get("KILL_MESSAGES", "500"))
RESTARTS = 8


def test_nothing_is_lost(keys: Keys) -> None:
    chance = random.Random()
    sizes = [chance.choice((1_000, 4_000, 20_000, 300_000, 2_000_000)) for _ in range(MESSAGES)]
    with mailstorm.storm(keys, sizes) as storm:

        def disturb() -> None:
            for _ in range(RESTARTS):
                mailstorm.while_running(
                    lambda: storm.kill(chance), 0.05, lambda: time.sleep(chance.uniform(1, 4))
                )
                storm.postfix.stop(chance.choice((0.0, 0.2, 1.0)))
                storm.postfix.start()

        disturbing = mailstorm.in_thread(disturb)
        storm.submit_all(8)
        disturbing.join()
        storm.run_dry(600)
        verdict = storm.verdict(keys)
        resubmitted = sum(storm.tries.values()) - MESSAGES
    kills = sum(storm.kills.values())
    print(f"\n{MESSAGES} messages, {RESTARTS} times Postfix stopped, killed: {dict(storm.kills)}")
    print(f"submitted again for want of an answer: {resubmitted}")
    print("".join(f"{what:10} {count:4}\n" for what, count in verdict.items()))
    surplus = verdict.pop("surplus")
    assert set(verdict.values()) == {0}
    assert surplus <= kills + 4 * RESTARTS  # a message that sendmail(1) had already taken is sent again
    assert kills > 20
