/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef UTIL_LIST_H
#define UTIL_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "util/macros.h"

/* Circular doubly linked list. A head is a link that is its own neighbour; so is a removed link. */
struct list {
	struct list *next, *prev;
};

#define LIST_INIT(name)                          \
	{                                        \
		.next = &(name), .prev = &(name) \
	}

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_insert(struct list *after, struct list *l)
{
	l->prev = after;
	l->next = after->next;
	after->next->prev = l;
	after->next = l;
}

static inline void list_append(struct list *head, struct list *l)
{
	list_insert(head->prev, l);
}

/* Unlinks l and leaves it empty, so that removing it again does nothing. */
static inline void list_remove(struct list *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	list_init(l);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)
#define list_for_each(pos, head, member)                                                       \
	for (pos = list_entry((head)->next, __typeof__(*pos), member); &pos->member != (head); \
	     pos = list_entry(pos->member.next, __typeof__(*pos), member))
/* pos may be removed inside the body; tmp holds the next one. */
#define list_for_each_safe(pos, tmp, head, member)                        \
	for (pos = list_entry((head)->next, __typeof__(*pos), member),    \
	    tmp = list_entry(pos->member.next, __typeof__(*pos), member); \
	     &pos->member != (head);                                      \
	     pos = tmp, tmp = list_entry(tmp->member.next, __typeof__(*tmp), member))

#endif
