/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "back/chr.h"
#include "bench/tb.h"
#include "hw/models.h"
#include "hw/uart.h"
#include "run.h"
#include "util/err.h"
#include "util/fd.h"

#define COM1 0x3f8
#define DATA 0
#define IER 1
#define IIR 2
#define FCR 2
#define LCR 3
#define MCR 4
#define LSR 5
#define MSR 6
#define SCR 7
#define IRQ 4
#define OUT2 0x08
#define LOOP 0x10
#define IER_RDA 1
#define IER_THRE 2
#define IER_RLS 4
#define IER_MSI 8

/* A port whose other end is a socket that the test holds, or just the ring. */
struct setup {
	struct tb *tb;
	struct dev *d;
	int fd;
};

static uint8_t in(struct setup *s, unsigned int reg)
{
	return (uint8_t)tb_in(s->tb, (uint16_t)(COM1 + reg), 1);
}

static void out(struct setup *s, unsigned int reg, unsigned int value)
{
	tb_out(s->tb, (uint16_t)(COM1 + reg), 1, value);
}

static struct setup make(const char *conf)
{
	struct setup s = { .tb = tb_new(NULL), .fd = -1 };
	struct err err = { 0 };

	s.d = tb_add(s.tb, &uart_ops, conf, &err);
	if (!s.d)
		CHECK_FAIL("tb_add: %s", err.text);
	return s;
}

static struct setup make_connected(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct setup s;
	char conf[128];

	snprintf(sa.sun_path, sizeof(sa.sun_path), "/tmp/test_uart-%d", (int)getpid());
	snprintf(conf, sizeof(conf), "path=unix:%s\n", sa.sun_path);
	s = make(conf);
	s.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK_EQ(connect(s.fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	tb_run(s.tb);
	return s;
}

static void done(struct setup *s)
{
	fd_close(&s->fd);
	tb_free(s->tb);
}

static void say(struct setup *s, const char *text)
{
	CHECK_EQ(write(s->fd, text, strlen(text)), (ssize_t)strlen(text));
	tb_run(s->tb);
}

static void reset_values(void)
{
	struct setup s = make("path=ring");

	for (int i = 0; i < 2; i++) {
		CHECK_EQ(in(&s, IER), 0);
		CHECK_EQ(in(&s, IIR), 0x01);
		CHECK_EQ(in(&s, LCR), 0);
		CHECK_EQ(in(&s, MCR), 0);
		CHECK_EQ(in(&s, LSR), 0x60);
		CHECK_EQ(in(&s, MSR), 0xb0);
		CHECK_EQ(in(&s, SCR), 0);
		CHECK(!tb_wire(s.tb, IRQ));
		out(&s, SCR, 0xaa); /* the firmware's probe */
		CHECK_EQ(in(&s, SCR), 0xaa);
		out(&s, SCR, 0x55);
		CHECK_EQ(in(&s, SCR), 0x55);
		out(&s, LCR, 0x83);
		out(&s, MCR, LOOP | OUT2 | 3);
		out(&s, FCR, 0xc7);
		CHECK(tb_reset(s.tb));
	}
	done(&s);
}

static void four_ports(void)
{
	static const uint16_t ports[] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
	static const unsigned int irqs[] = { 4, 3, 4, 3 };
	struct tb *tb = tb_new(NULL);
	struct err err = { 0 };
	char conf[32], text[8];

	for (unsigned int i = 0; i < 4; i++) {
		snprintf(conf, sizeof(conf), "index=%u\npath=ring\n", i);
		CHECK(tb_add(tb, &uart_ops, conf, &err));
	}
	for (unsigned int i = 0; i < 4; i++) {
		CHECK_EQ(uart_places[i].port, ports[i]);
		CHECK_EQ(uart_places[i].irq, irqs[i]);
		tb_out(tb, ports[i], 1, 'a' + i);
		CHECK_EQ(chr_peek(tb_chr(tb, i), text, 8), 1);
		CHECK_EQ(text[0], 'a' + i);
		tb_out(tb, (uint16_t)(ports[i] + MCR), 1, OUT2);
		tb_out(tb, (uint16_t)(ports[i] + IER), 1, IER_THRE);
		CHECK(tb_wire(tb, irqs[i]));
		tb_in(tb, (uint16_t)(ports[i] + IIR), 1);
		CHECK(!tb_wire(tb, irqs[i]));
	}
	CHECK(!tb_add(tb, &uart_ops, "index=4", &err));
	CHECK(!tb_add(tb, &uart_ops, "path=nothing", &err));
	tb_free(tb);
}

static void transmit(void)
{
	struct setup s = make_connected();
	char text[32] = "";

	for (const char *p = "Hello\r\n"; *p; p++) {
		CHECK_EQ(in(&s, LSR) & 0x60, 0x60);
		out(&s, DATA, (uint8_t)*p);
	}
	tb_run(s.tb);
	CHECK_EQ(read(s.fd, text, sizeof(text)), 7);
	CHECK_STR(text, "Hello\r\n");
	done(&s);
}

static void divisor_latch(void)
{
	struct setup s = make("path=ring");
	char byte;

	out(&s, LCR, 0x83);
	out(&s, DATA, 0x34);
	out(&s, IER, 0x12);
	CHECK_EQ(in(&s, DATA), 0x34);
	CHECK_EQ(in(&s, IER), 0x12);
	out(&s, DATA, 0); /* a divisor of 0 stops nothing */
	out(&s, IER, 0);
	out(&s, LCR, 0x03);
	CHECK_EQ(in(&s, IER), 0);
	CHECK_EQ(chr_peek(tb_chr(s.tb, 0), &byte, 1), 0);
	out(&s, DATA, 'x');
	CHECK_EQ(chr_peek(tb_chr(s.tb, 0), &byte, 1), 1);
	done(&s);
}

static void transmit_interrupt(void)
{
	struct setup s = make("path=ring");

	out(&s, IER, IER_THRE);
	CHECK_EQ(in(&s, IIR), 0x02); /* pending, but the line is gated by OUT2 */
	out(&s, IER, 0);
	out(&s, MCR, OUT2);
	CHECK(!tb_wire(s.tb, IRQ));
	out(&s, IER, IER_THRE);
	CHECK(tb_wire(s.tb, IRQ));
	CHECK_EQ(in(&s, IIR), 0x02);
	CHECK(!tb_wire(s.tb, IRQ)); /* reading IIR answers it */
	CHECK_EQ(in(&s, IIR), 0x01);
	tb_rises(s.tb, IRQ);
	for (int i = 0; i < 10; i++)
		out(&s, DATA, 'x');
	CHECK_EQ(tb_rises(s.tb, IRQ), 10); /* an edge for each byte: none is lost */
	CHECK_EQ(in(&s, IIR), 0x02);
	out(&s, MCR, 0);
	CHECK(!tb_wire(s.tb, IRQ));
	done(&s);
}

static void receive(void)
{
	struct setup s = make_connected();

	out(&s, MCR, OUT2);
	out(&s, IER, IER_RDA);
	say(&s, "ab");
	CHECK(tb_wire(s.tb, IRQ));
	CHECK_EQ(in(&s, IIR), 0x04);
	CHECK_EQ(in(&s, LSR), 0x61);
	CHECK_EQ(in(&s, DATA), 'a'); /* without FIFOs the second waits outside */
	CHECK(!tb_wire(s.tb, IRQ));
	CHECK_EQ(in(&s, LSR), 0x60);
	tb_run(s.tb);
	CHECK(tb_wire(s.tb, IRQ));
	CHECK_EQ(in(&s, DATA), 'b');
	CHECK_EQ(in(&s, LSR), 0x60);
	CHECK_EQ(in(&s, DATA), 0);
	done(&s);
}

static void receive_fifo(void)
{
	static const uint8_t triggers[] = { 1, 4, 8, 14 };
	struct setup s = make_connected();
	char byte[2] = "";

	out(&s, MCR, OUT2);
	out(&s, IER, IER_RDA);
	for (unsigned int t = 0; t < 4; t++) {
		out(&s, FCR, t << 6 | 0x07);
		CHECK_EQ(in(&s, IIR), 0xc1);
		for (unsigned int i = 1; i <= 16; i++) {
			byte[0] = (char)('a' + i);
			say(&s, byte);
			CHECK(tb_wire(s.tb, IRQ));
			CHECK_EQ(in(&s, IIR), i >= triggers[t] ? 0xc4 : 0xcc);
		}
		/* Full: what comes now waits outside and is not lost. */
		say(&s, "z");
		CHECK_EQ(in(&s, LSR), 0x61);
		for (unsigned int i = 1; i <= 16; i++)
			CHECK_EQ(in(&s, DATA), 'a' + i);
		tb_run(s.tb);
		CHECK_EQ(in(&s, DATA), 'z');
		CHECK(!tb_wire(s.tb, IRQ));
	}
	/* Clearing the FIFO drops what is in it. */
	say(&s, "12345");
	CHECK_EQ(in(&s, LSR), 0x61);
	out(&s, FCR, 0x03);
	CHECK_EQ(in(&s, LSR), 0x60);
	say(&s, "6");
	CHECK_EQ(in(&s, DATA), '6');
	out(&s, FCR, 0);
	CHECK_EQ(in(&s, IIR), 0x01);
	done(&s);
}

static void loop_back(void)
{
	struct setup s = make_connected();
	char byte;

	out(&s, MCR, LOOP | OUT2);
	CHECK_EQ(in(&s, MSR) & 0xf0, 0x80);
	out(&s, MCR, LOOP | 0x0a); /* RTS and OUT2: Linux's test */
	CHECK_EQ(in(&s, MSR) & 0xf0, 0x90);
	out(&s, MCR, LOOP | 0x0f);
	CHECK_EQ(in(&s, MSR) & 0xf0, 0xf0);
	CHECK_EQ(in(&s, MSR) & 0x0f, 0); /* read: the changes are gone */
	out(&s, IER, IER_MSI | IER_RDA | IER_RLS);
	out(&s, MCR, LOOP);
	CHECK_EQ(in(&s, IIR), 0x00);
	CHECK(in(&s, MSR) & 0x0f);
	out(&s, DATA, 'q');
	CHECK(!tb_wire(s.tb, IRQ)); /* OUT2 is off in loop-back mode */
	CHECK_EQ(in(&s, IIR), 0x04);
	out(&s, DATA, 'r'); /* no room: overrun */
	CHECK_EQ(in(&s, IIR), 0x06);
	CHECK_EQ(in(&s, LSR), 0x63);
	CHECK_EQ(in(&s, LSR), 0x61);
	CHECK_EQ(in(&s, DATA), 'q');
	/* Nothing goes out, and nothing comes in. */
	tb_run(s.tb);
	CHECK_EQ(read(s.fd, &byte, 1), -1);
	say(&s, "w");
	CHECK_EQ(in(&s, LSR), 0x60);
	out(&s, MCR, OUT2);
	tb_run(s.tb);
	CHECK_EQ(in(&s, DATA), 'w');
	done(&s);
}

/* K-01: a million bytes and nobody reads; toggled registers; more input than anybody takes. */
static void bounded(void)
{
	struct setup s = make_connected();
	struct loop_stats before, after;
	char *flood = calloc(1, 65536);
	unsigned int seed = 5;
	ssize_t sent = 0, n;

	loop_stats_get(tb_loop(s.tb), &before);
	for (unsigned int i = 0; i < 1000000; i++)
		out(&s, DATA, i);
	tb_run(s.tb);
	loop_stats_get(tb_loop(s.tb), &after);
	CHECK(after.callbacks - before.callbacks < 100);
	while ((n = write(s.fd, flood, 65536)) > 0 && sent < 8 << 20) {
		sent += n;
		tb_run(s.tb);
	}
	CHECK(sent < 4 << 20); /* the socket is full, not we */
	for (unsigned int i = 0; i < 200000; i++) {
		unsigned int reg = (unsigned int)rand_r(&seed) % 8;

		if (rand_r(&seed) & 1)
			out(&s, reg, (unsigned int)rand_r(&seed));
		else
			in(&s, reg);
		if (i % 1000 == 0)
			tb_run(s.tb);
	}
	CHECK(tb_reset(s.tb));
	CHECK_EQ(in(&s, LSR) & 0x60, 0x60);
	free(flood);
	done(&s);
}

static void paused(void)
{
	struct setup s = make_connected();

	out(&s, FCR, 0x01);
	out(&s, MCR, OUT2);
	out(&s, IER, IER_RDA);
	CHECK(tb_pause(s.tb));
	say(&s, "abc");
	tb_resume(s.tb);
	tb_run(s.tb);
	CHECK_EQ(in(&s, DATA), 'a');
	CHECK_EQ(in(&s, DATA), 'b');
	CHECK_EQ(in(&s, DATA), 'c');
	CHECK(tb_reset(s.tb));
	CHECK_EQ(in(&s, IIR), 0x01);
	done(&s);
}

/* A reset makes room, also for a guest that touches no other register. */
static void reset_while_full(void)
{
	struct setup s = make_connected();

	out(&s, FCR, 0x01);
	say(&s, "0123456789abcdefz");
	CHECK_EQ(in(&s, DATA), '0');
	say(&s, "y");
	CHECK(tb_reset(s.tb));
	tb_run(s.tb);
	CHECK_EQ(in(&s, DATA), 'y');
	done(&s);
}

/* G-08 */
static void odd_widths(void)
{
	struct setup s = make("path=ring");
	uint8_t text[8];

	tb_out(s.tb, COM1 + LCR, 2, 0x0b03); /* LCR and MCR */
	CHECK_EQ(in(&s, LCR), 0x03);
	CHECK_EQ(in(&s, MCR), 0x0b);
	CHECK_EQ(tb_in(s.tb, COM1 + LSR, 2), 0xb060);
	CHECK_EQ(tb_in(s.tb, COM1 + LSR, 4), 0xff00b060); /* over the end */
	tb_out(s.tb, COM1, 2, 0x0041);
	CHECK_EQ(chr_peek(tb_chr(s.tb, 0), text, 8), 1);
	for (unsigned int size = 1; size <= 4; size *= 2)
		for (unsigned int port = COM1 - 4; port < COM1 + 12; port++) {
			tb_out(s.tb, (uint16_t)port, size, 0xffffffff);
			tb_in(s.tb, (uint16_t)port, size);
			tb_out(s.tb, (uint16_t)port, size, 0);
		}
	CHECK_EQ(in(&s, LCR), 0);
	done(&s);
}

static void not_connected(void)
{
	struct setup s = make(NULL);

	for (int i = 0; i < 100; i++)
		out(&s, DATA, 'x');
	out(&s, MCR, LOOP);
	out(&s, DATA, 'y');
	CHECK_EQ(in(&s, DATA), 'y');
	out(&s, MCR, 0);
	CHECK_EQ(in(&s, LSR), 0x60);
	done(&s);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "reset values", reset_values },
		{ "four ports", four_ports },
		{ "transmit", transmit },
		{ "divisor latch", divisor_latch },
		{ "transmit interrupt", transmit_interrupt },
		{ "receive", receive },
		{ "receive FIFO", receive_fifo },
		{ "loop back", loop_back },
		{ "bounded (K-01)", bounded },
		{ "paused", paused },
		{ "reset while full", reset_while_full },
		{ "odd widths (G-08)", odd_widths },
		{ "not connected", not_connected },
	};

	return RUN_CASES(cases, argc, argv);
}
