/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "machine/machine_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Commands of the control socket that stand for a person in front of the machine: eyes and fingers. */

#define KEYS_MAX 8 /* more do not fit into a keyboard's queue with what else makes a chord */
#define LED_CAPS 4u /* screen_leds() */

/* The reader takes the picture out of the memory by itself: viewers go on as if nobody had asked. */
int machine_cmd_screen(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	struct machine *m = arg;
	struct screen_mode mode;
	int r;

	if (operand && *operand)
		return err_set(err, -EINVAL, "takes no operand");
	if (!m->screen)
		return err_set(err, -ENODEV, "the guest has no screen");
	mode = screen_get_mode(m->screen);
	if (!mode.width || !mode.height)
		return err_set(err, -ENODATA, "the guest's screen is off");
	r = control_reply_fd(c, screen_memfd(m->screen));
	if (r < 0)
		return err_set(err, r, "cannot pass the screen on: %s", strerror(-r));
	control_reply(c, "width", "%u", mode.width);
	control_reply(c, "height", "%u", mode.height);
	control_reply(c, "stride", "%u", mode.stride);
	control_reply(c, "offset", "%u", mode.offset);
	return 0;
}

/* Scancodes with blanks between. Returns how many, or -EINVAL. */
static int parse_keys(const char *text, uint16_t keys[KEYS_MAX])
{
	int n = 0;

	while (*(text += strspn(text, " "))) {
		char *end;
		unsigned long code = strtoul(text, &end, 16);

		if (end == text || (*end && *end != ' ') || code > UINT16_MAX || n == KEYS_MAX ||
		    !input_key_valid((uint16_t)code))
			return -EINVAL;
		keys[n++] = (uint16_t)code;
		text = end;
	}
	return n;
}

/*
 * A chord goes to the guest as a whole or not at all, so that nothing stays pressed when whoever types is gone. Only
 * when all before it was fetched: a keyboard's queue that overflows would lose keys.
 */
int machine_cmd_key(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	struct machine *m = arg;
	uint16_t keys[KEYS_MAX];
	int n = parse_keys(operand ? operand : "", keys);

	if (n < 0)
		return err_set(err, -EINVAL, "use: key CODE..., at most %d scancodes", KEYS_MAX);
	if (m->state != MACHINE_RUNNING)
		return err_set(err, -EBUSY, "the guest does not run at this moment: it is %s",
			       machine_state_name(m));
	if (input_busy(&m->input))
		return err_set(err, -EAGAIN,
			       "the guest has not fetched the keys before: try again");
	control_reply(c, "caps", "%s",
		      m->screen && screen_leds(m->screen) & LED_CAPS ? "on" : "off");
	for (int i = 0; i < n; i++)
		if (!input_key(&m->input, keys[i], 1) && i == 0)
			return err_set(err, -EAGAIN,
				       "the guest does not listen to its keyboard: try again");
	while (n > 0)
		input_key(&m->input, keys[--n], 0);
	return 0;
}
