/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "back/blk_priv.h"
#include "util/log.h"

/* What happens when the host fails a request: see struct blk_trouble. The same for all models and engines. */

const char *const blk_on_nospace_choices[] = { "pause", "error", NULL };
const char *const blk_on_error_choices[] = { "report", "pause", "stop", NULL };

const char *const blk_cache_choices[] = { "writeback", "none", "unsafe", NULL };

static void on_retry(struct loop_timer *t)
{
	blk_retry(container_of(t, struct blk, retry));
}

void blk_policy_init(struct blk *b)
{
	list_init(&b->parked);
	loop_timer_init(b->loop, &b->retry, on_retry);
}

void blk_policy_fini(struct blk *b)
{
	loop_timer_cancel(&b->retry);
}

void blk_set_trouble(struct blk *b, void (*changed)(void *arg), void *arg)
{
	b->changed = changed;
	b->changed_arg = arg;
}

bool blk_trouble_get(const struct blk *b, struct blk_trouble *out)
{
	static const char *const names[] = { [BLK_READ] = "reading",
					     [BLK_WRITE] = "writing",
					     [BLK_FLUSH] = "flushing",
					     [BLK_DISCARD] = "discarding blocks of",
					     [BLK_WRITE_ZEROES] = "writing zeroes to" };
	const char *path = b->info.path ? b->info.path : "the disk";

	if (!b->trouble)
		return false;
	*out = (struct blk_trouble){ .error = -b->trouble, .stop = b->stop };
	if (b->trouble == -ENOSPC && b->trouble_op != BLK_FLUSH && !b->stop)
		snprintf(out->text, sizeof(out->text),
			 "no space on the host for %s; the guest goes on by itself when there is",
			 path);
	else
		snprintf(out->text, sizeof(out->text), "%s %s failed: %s", names[b->trouble_op],
			 path, strerror(-b->trouble));
	return true;
}

static void tell_changed(struct blk *b)
{
	struct blk_trouble t;

	if (blk_trouble_get(b, &t))
		log_limited(LOG_LEVEL_WARN, "disk", "%s", t.text);
	else
		log_limited(LOG_LEVEL_INFO, "disk", "%s works again",
			    b->info.path ? b->info.path : "the disk");
	if (b->changed)
		b->changed(b->changed_arg);
}

static bool wants_space(const struct blk_work *w, int res)
{
	return res == -ENOSPC && blk_req_of((struct blk_work *)(uintptr_t)w)->op != BLK_FLUSH;
}

/* A person may do something about it, the policy is not to tell the guest, and somebody will stop it meanwhile. */
static bool is_trouble(const struct blk *b, const struct blk_work *w, int res)
{
	if (!b->changed || res >= 0 || res == -EOPNOTSUPP || w->run == BLK_REFUSED || b->giving_up)
		return false;
	return wants_space(w, res) ? b->on_nospace == BLK_NOSPACE_PAUSE
				   : b->on_error != BLK_ERROR_REPORT;
}

bool blk_policy_keeps(struct blk *b, struct blk_work *w, int res)
{
	bool trouble = is_trouble(b, w, res), stop;

	if (w->run == BLK_RUNS_AGAIN)
		b->retrying--; /* that this may be the last one is looked at after all are told */
	if (!trouble)
		return false;
	stop = !wants_space(w, res) && b->on_error == BLK_ERROR_STOP;
	if (!b->trouble || (stop && !b->stop)) {
		b->trouble = res;
		b->trouble_op = blk_req_of(w)->op;
		b->stop = stop;
		tell_changed(b);
	}
	if (stop)
		return false;
	w->res = res;
	list_append(&b->parked, &w->link);
	if (wants_space(w, res))
		loop_timer_set(&b->retry, loop_now(b->loop) + BLK_RETRY_NS);
	return true;
}

void blk_policy_look(struct blk *b)
{
	if (!b->trouble || b->stop || b->retrying || !list_empty(&b->parked))
		return;
	b->trouble = 0;
	loop_timer_cancel(&b->retry);
	tell_changed(b);
}

/* What cannot be done again, or not any more, gets the error it had. */
static bool is_final(const struct blk *b, const struct blk_work *w)
{
	enum blk_op op = blk_req_of((struct blk_work *)(uintptr_t)w)->op;

	return op == BLK_FLUSH || (b->failed && op != BLK_READ);
}

static void parked_take(struct blk *b, bool again)
{
	struct list todo;

	if (list_empty(&b->parked))
		return;
	todo = b->parked;
	todo.next->prev = todo.prev->next = &todo;
	list_init(&b->parked);
	loop_timer_cancel(&b->retry);
	while (!list_empty(&todo)) {
		struct blk_work *w = list_first(&todo, struct blk_work, link);

		list_remove(&w->link);
		if (!again || is_final(b, w)) {
			w->run = BLK_REFUSED;
			blk_done(blk_req_of(w), w->res);
			continue;
		}
		w->run = BLK_RUNS_AGAIN;
		b->retrying++;
		b->ops->submit(b, blk_req_of(w));
	}
}

void blk_retry(struct blk *b)
{
	parked_take(b, true);
}

void blk_give_up(struct blk *b)
{
	b->giving_up = true;
	parked_take(b, false);
}
