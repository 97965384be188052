/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "back/input.h"
#include "conf/conf.h"
#include "hw/models.h"
#include "hw/ps2.h"
#include "util/err.h"

/* The keyboard controller at ports 60 and 64 (IBM PS/2 Technical Reference, Keyboard/Auxiliary Device Controller). */
#define PORT_DATA 0x60
#define PORT_COMMAND 0x64
#define IRQ_KEYBOARD 1
#define IRQ_MOUSE 12

#define STATUS_OBF BIT(0)
#define STATUS_SYSTEM BIT(2)
#define STATUS_COMMAND BIT(3)
#define STATUS_UNLOCKED BIT(4)
#define STATUS_AUX_OBF BIT(5)

#define CFG_KBD_IRQ BIT(0)
#define CFG_AUX_IRQ BIT(1)
#define CFG_SYSTEM BIT(2)
#define CFG_KBD_OFF BIT(4)
#define CFG_AUX_OFF BIT(5)
#define CFG_TRANSLATE BIT(6)
#define CFG_BITS 0x77u

#define CMD_READ_CFG 0x20
#define CMD_WRITE_CFG 0x60
#define CMD_AUX_OFF 0xa7
#define CMD_AUX_ON 0xa8
#define CMD_AUX_TEST 0xa9
#define CMD_SELF_TEST 0xaa
#define CMD_KBD_TEST 0xab
#define CMD_KBD_OFF 0xad
#define CMD_KBD_ON 0xae
#define CMD_READ_INPUT 0xc0
#define CMD_READ_OUTPUT 0xd0
#define CMD_WRITE_OUTPUT 0xd1
#define CMD_KBD_OBF 0xd2
#define CMD_AUX_OBF 0xd3
#define CMD_TO_AUX 0xd4
#define CMD_PULSE 0xf0
#define OUTPUT_NO_RESET BIT(0)
#define OUTPUT_A20 BIT(1)
#define INPUT_UNLOCKED 0x80
#define SELF_TEST_OK 0x55

enum source { FROM_NONE, FROM_CONTROLLER, FROM_KEYBOARD, FROM_MOUSE };

struct i8042 {
	struct dev dev;
	struct dev_region data, command;
	struct bus_irq kbd_irq, aux_irq;
	uint8_t cfg, pending; /* pending: a controller command that waits for its operand */
	bool last_was_command;
	uint8_t out; /* output buffer, valid unless from is FROM_NONE */
	enum source from;
	struct ps2_keyboard kbd;
	struct ps2_mouse mouse;
	struct input_sink sink;
};

static struct i8042 *i8042_of(struct dev *d)
{
	return container_of(d, struct i8042, dev);
}

/* Interrupts are edges: the line falls with every byte read and rises with the next one. */
static void update_irqs(struct i8042 *c)
{
	bool full = c->from != FROM_NONE;

	bus_irq_set(&c->kbd_irq, full && c->from != FROM_MOUSE && (c->cfg & CFG_KBD_IRQ));
	bus_irq_set(&c->aux_irq, c->from == FROM_MOUSE && (c->cfg & CFG_AUX_IRQ));
}

static void put(struct i8042 *c, enum source from, uint8_t byte)
{
	c->out = byte;
	c->from = from;
}

/* Fills the output buffer if it is empty and somebody has something to say. */
static void refill(struct i8042 *c)
{
	if (c->from == FROM_NONE && c->kbd.out.count && !(c->cfg & CFG_KBD_OFF)) {
		c->kbd.last = ps2_queue_pop(&c->kbd.out);
		put(c, FROM_KEYBOARD, c->kbd.last);
	}
	ps2_mouse_flush(&c->mouse);
	if (c->from == FROM_NONE && c->mouse.out.count && !(c->cfg & CFG_AUX_OFF))
		put(c, FROM_MOUSE, ps2_queue_pop(&c->mouse.out));
	update_irqs(c);
}

static uint64_t data_read(struct dev *d, uint64_t offset, unsigned int size)
{
	struct i8042 *c = i8042_of(d);
	uint8_t byte = c->out;

	(void)offset;
	(void)size;
	c->from = FROM_NONE;
	update_irqs(c);
	refill(c);
	return byte;
}

static uint64_t status_read(struct dev *d, uint64_t offset, unsigned int size)
{
	struct i8042 *c = i8042_of(d);
	uint8_t status = STATUS_UNLOCKED;

	(void)offset;
	(void)size;
	status |= c->from != FROM_NONE ? STATUS_OBF : 0;
	status |= c->from == FROM_MOUSE ? STATUS_AUX_OBF : 0;
	status |= c->cfg & CFG_SYSTEM ? STATUS_SYSTEM : 0;
	status |= c->last_was_command ? STATUS_COMMAND : 0;
	return status;
}

static void set_cfg(struct i8042 *c, uint8_t cfg)
{
	c->cfg = cfg & CFG_BITS;
	c->kbd.translate = cfg & CFG_TRANSLATE;
}

static void write_output_port(struct i8042 *c, uint8_t value)
{
	if (!(value & OUTPUT_NO_RESET))
		bus_request(c->dev.env.bus, BUS_RESET);
}

/* The operand of a controller command. */
static void operand(struct i8042 *c, uint8_t command, uint8_t byte)
{
	switch (command) {
	case CMD_WRITE_CFG:
		set_cfg(c, byte);
		break;
	case CMD_WRITE_OUTPUT:
		write_output_port(c, byte);
		break;
	case CMD_KBD_OBF:
		put(c, FROM_KEYBOARD, byte);
		break;
	case CMD_AUX_OBF:
		put(c, FROM_MOUSE, byte);
		break;
	default:
		c->cfg &= (uint8_t)~CFG_AUX_OFF;
		ps2_mouse_write(&c->mouse, byte);
	}
}

static void tell_leds(struct i8042 *c)
{
	const struct input *in = c->dev.env.input;

	if (in && in->leds)
		in->leds(in->leds_arg, c->kbd.leds);
}

static void data_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	struct i8042 *c = i8042_of(d);
	uint8_t pending = c->pending, leds = c->kbd.leds, byte = (uint8_t)value;

	(void)offset;
	(void)size;
	c->pending = 0;
	c->last_was_command = false;
	if (pending) {
		operand(c, pending, byte);
	} else {
		/* Talking to the keyboard switches it on. */
		c->cfg &= (uint8_t)~CFG_KBD_OFF;
		if (c->from == FROM_KEYBOARD)
			c->from = FROM_NONE;
		ps2_keyboard_write(&c->kbd, byte);
	}
	refill(c);
	if (c->kbd.leds != leds)
		tell_leds(c);
}

static void answer(struct i8042 *c, uint8_t byte)
{
	put(c, FROM_CONTROLLER, byte);
}

static void command_simple(struct i8042 *c, uint8_t cmd)
{
	switch (cmd) {
	case CMD_READ_CFG:
		answer(c, c->cfg);
		break;
	case CMD_AUX_OFF:
		c->cfg |= CFG_AUX_OFF;
		break;
	case CMD_AUX_ON:
		c->cfg &= (uint8_t)~CFG_AUX_OFF;
		break;
	case CMD_KBD_OFF:
		c->cfg |= CFG_KBD_OFF;
		break;
	case CMD_KBD_ON:
		c->cfg &= (uint8_t)~CFG_KBD_OFF;
		break;
	case CMD_AUX_TEST:
	case CMD_KBD_TEST:
		answer(c, 0x00);
		break;
	case CMD_SELF_TEST:
		c->cfg |= CFG_SYSTEM;
		answer(c, SELF_TEST_OK);
		break;
	case CMD_READ_INPUT:
		answer(c, INPUT_UNLOCKED);
		break;
	case CMD_READ_OUTPUT:
		answer(c, OUTPUT_NO_RESET | OUTPUT_A20);
		break;
	default:
		/* RAM bytes other than the configuration, and what no controller knows: nothing. */
		break;
	}
}

static void command_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	struct i8042 *c = i8042_of(d);
	uint8_t cmd = (uint8_t)value;

	(void)offset;
	(void)size;
	c->last_was_command = true;
	c->pending = 0;
	if (cmd >= CMD_PULSE)
		write_output_port(c, cmd & 0x0f);
	else if (cmd == CMD_WRITE_CFG || (cmd >= CMD_WRITE_OUTPUT && cmd <= CMD_TO_AUX))
		c->pending = cmd;
	else
		command_simple(c, cmd);
	refill(c);
}

static bool on_key(void *arg, uint16_t scancode, int down)
{
	struct i8042 *c = arg;
	bool taken;

	dev_lock(&c->dev);
	taken = c->kbd.scanning;
	ps2_keyboard_key(&c->kbd, scancode, down);
	refill(c);
	dev_unlock(&c->dev);
	return taken;
}

static enum input_state key_state(void *arg)
{
	struct i8042 *c = arg;
	enum input_state state = INPUT_READY;

	dev_lock(&c->dev);
	if (!c->kbd.scanning)
		state = INPUT_DEAF;
	else if (c->kbd.out.count || c->from == FROM_KEYBOARD)
		state = INPUT_BUSY;
	dev_unlock(&c->dev);
	return state;
}

static bool on_pointer(void *arg, int x, int y, int width, int height, unsigned int buttons)
{
	struct i8042 *c = arg;

	(void)width;
	(void)height;
	dev_lock(&c->dev);
	ps2_mouse_move(&c->mouse, x, y, buttons);
	refill(c);
	dev_unlock(&c->dev);
	return true;
}

static void power_on(struct i8042 *c)
{
	c->pending = 0;
	c->last_was_command = false;
	c->from = FROM_NONE;
	c->out = 0;
	set_cfg(c, CFG_KBD_IRQ | CFG_AUX_IRQ | CFG_SYSTEM | CFG_TRANSLATE);
	ps2_keyboard_reset(&c->kbd);
	ps2_mouse_reset(&c->mouse);
	update_irqs(c);
}

static int i8042_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	struct i8042 *c = i8042_of(d);
	int r;

	(void)conf;
	bus_irq_init(env->bus, &c->kbd_irq, IRQ_KEYBOARD);
	bus_irq_init(env->bus, &c->aux_irq, IRQ_MOUSE);
	power_on(c);
	dev_region_init_ops(&c->data, d, 1, data_read, data_write);
	dev_region_init_ops(&c->command, d, 1, status_read, command_write);
	r = bus_map(env->bus, &c->data.region, BUS_PORT, PORT_DATA);
	if (r == 0)
		r = bus_map(env->bus, &c->command.region, BUS_PORT, PORT_COMMAND);
	if (r < 0)
		return err_set(err, r, "cannot map ports 60 and 64");
	if (env->input) {
		c->sink = (struct input_sink){
			.key = on_key, .state = key_state, .pointer = on_pointer, .arg = c
		};
		input_add(env->input, &c->sink, false);
	}
	return 0;
}

static void i8042_reset(struct dev *d)
{
	struct i8042 *c = i8042_of(d);
	uint8_t leds = c->kbd.leds;

	power_on(c);
	if (leds != c->kbd.leds)
		tell_leds(c);
}

static void i8042_fini(struct dev *d)
{
	struct i8042 *c = i8042_of(d);

	if (c->data.region.mapped)
		bus_unmap(d->env.bus, &c->data.region);
	if (c->command.region.mapped)
		bus_unmap(d->env.bus, &c->command.region);
	input_remove(d->env.input, &c->sink);
}

static const struct conf_key keys[] = { CONF_KEY_END };

const struct dev_ops i8042_ops = {
	.model = "i8042",
	.help = "keyboard controller with PS/2 keyboard and mouse",
	.keys = keys,
	.size = sizeof(struct i8042),
	.init = i8042_init,
	.reset = i8042_reset,
	.fini = i8042_fini,
};
