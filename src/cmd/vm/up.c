/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/catalogue.h"
#include "manager/fetch.h"
#include "manager/file.h"
#include "manager/guest.h"
#include "manager/guestconf.h"
#include "manager/media.h"
#include "manager/prog.h"
#include "manager/progress.h"
#include "manager/run.h"
#include "manager/seed.h"
#include "manager/unpack.h"
#include "util/macros.h"
#include "util/str.h"

#define UP_SECONDS 600
#define MEMORY "1G"
/* The image that can be built, and what it is called then. */
#define BUILT "debian"
#define BUILT_FILE "debian-of-this-host.img"

/* Each step looks whether it is done already: repeated, the command goes on where it was. */
struct up {
	struct vm *vm;
	const char *image, *name;
	bool offline;
	struct guest_spec spec;
	struct seed_spec seed;
	struct catalogue_image entry; /* name "": the image is not of the catalogue */
	char guest[STORE_NAME_MAX + 1];
	char path[PATH_MAX]; /* of the image */
	char key[PATH_MAX];
	unsigned seconds;
};

static void step(const char *what, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void step(const char *what, const char *fmt, ...)
{
	va_list ap;

	printf("%-7s ", what);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static void say(bool warning, const char *text)
{
	if (warning)
		ui_warning("%s", text);
	else
		step("image", "%s", text);
}

/* --- the image --- */

/* A file of .img that a download of that name has become. */
static bool find_fetched(struct up *u, const char *name)
{
	const char *const ends[] = { ".raw", "" };
	char stem[NAME_MAX + 1], inner[NAME_MAX + 1];

	if (!unpack_stem(name, inner, sizeof(inner)) && str_copy(inner, sizeof(inner), name) < 0)
		return false;
	for (size_t i = 0; i < 2 * ARRAY_LEN(ends); i++) {
		bool qcow2 = i < ARRAY_LEN(ends) && str_ends(inner, ".qcow2");
		size_t len = strlen(inner) - (qcow2 ? strlen(".qcow2") : 0);

		if (file_path(stem, sizeof(stem), "%.*s%s", (int)len, inner,
			      ends[i % ARRAY_LEN(ends)]) == 0 &&
		    !unpack_is_packed(stem) &&
		    file_path(u->path, sizeof(u->path), "%s/.img/%s", u->vm->store.dir, stem) ==
			    0 &&
		    access(u->path, R_OK) == 0)
			return true;
	}
	return false;
}

/* Fetches what is not there. -errno: the text says why. */
static int fetch(struct up *u, const char *url, const char *checksum, struct err *err)
{
	char name[NAME_MAX + 1], dir[PATH_MAX];
	struct progress progress;
	struct media m = { .dir = dir,
			   .source = url,
			   .checksum = checksum,
			   .disk = true,
			   .progress = ui_progress(&progress, file_base(url)),
			   .say = say };
	int r = fetch_name(url, name, sizeof(name));

	if (r < 0 || file_path(dir, sizeof(dir), "%s/.img", u->vm->store.dir) < 0)
		return err_set(err, -EINVAL, "'%.200s' has no file name at its end", url);
	if (find_fetched(u, name)) {
		step("image", "%s is there", u->path);
		return 0;
	}
	if (u->offline)
		return err_set(err, -ENOENT,
			       "%s was not fetched yet, and --offline fetches nothing", name);
	u->path[0] = '\0';
	if (vm_would(u->vm, "fetch %s", url))
		return 0;
	step("image", "fetching %s", url);
	r = media_add(&m, err);
	if (r == 0 && !find_fetched(u, name))
		r = err_set(err, -ENOENT, "%s: no image came of it; 'vm img' lists what is there",
			    name);
	return r;
}

/* Runs the script that builds the image, whose words are for the person. */
static int run_script(const char *script, const char *out)
{
	const char *const argv[] = { "bash", script, out, NULL };
	struct err err;
	int r = prog_show(argv, &err);

	if (r < 0)
		return ui_error("%s", err.text);
	return r ? ui_error("the image was not built; what stands above says why") : 0;
}

static bool find_built(struct up *u)
{
	return file_path(u->path, sizeof(u->path), "%s/.img/" BUILT_FILE, u->vm->store.dir) == 0 &&
	       access(u->path, R_OK) == 0;
}

static int build(struct up *u)
{
	char stage[PATH_MAX], out[PATH_MAX], script[PATH_MAX];
	struct err err;
	int lock, r;

	u->path[0] = '\0';
	if (vm_would(u->vm, "build Debian from this host's package mirror"))
		return 0;
	if (file_path(script, sizeof(script), "%s/../images/debian.sh", u->vm->store.share) < 0 ||
	    store_stage(&u->vm->store, BUILT, stage, sizeof(stage), &lock, &err) < 0)
		return ui_error("%s", err.text);
	step("build", "Debian from this host's package mirror; this takes some minutes");
	r = file_path(out, sizeof(out), "%s/image", stage) < 0 ? VM_FAILED
							       : run_script(script, out);
	(void)file_path(u->path, sizeof(u->path), "%s/.img/" BUILT_FILE, u->vm->store.dir);
	if (r == 0 && rename(out, u->path) < 0)
		r = ui_error("cannot make %s: %s", u->path, strerror(errno));
	(void)file_remove_tree(AT_FDCWD, stage);
	close(lock);
	if (r == 0)
		step("image", "%s", u->path);
	return r;
}

/* An image of the catalogue; Debian's is built when it cannot be had. */
static int get_known(struct up *u)
{
	const char *checksum = u->entry.checksum[0] ? u->entry.checksum : NULL;
	struct err err;
	int r;

	if (strcmp(u->image, BUILT) == 0 && find_built(u)) {
		step("image", "%s is there", u->path);
		return 0;
	}
	r = fetch(u, u->entry.url, checksum, &err);
	if (r == 0)
		return 0;
	/* What is there but wrong is no reason to take something else. */
	if (strcmp(u->image, BUILT) != 0 || r == -EBADMSG)
		return ui_error("%s", err.text);
	if (!u->offline)
		ui_warning("%s", err.text);
	return build(u);
}

static int get_image(struct up *u)
{
	struct err err;
	int r;

	if (fetch_is_url(u->image))
		return fetch(u, u->image, NULL, &err) < 0 ? ui_error("%s", err.text) : 0;
	if (u->entry.name[0])
		return get_known(u);
	r = store_find_img(&u->vm->store, u->image, u->path, sizeof(u->path));
	if (r == 0) {
		step("image", "%s", u->path);
		return 0;
	}
	if (strchr(u->image, '/'))
		return ui_error("%s: no such file", u->image);
	r = catalogue_find(&u->vm->store, u->image, &u->entry, &err);
	return r < 0 ? ui_error("%s", err.text) : get_known(u);
}

/* --- the key --- */

/* Makes the store's key, which vm ssh finds. */
static int make_key(struct up *u)
{
	const char *const argv[] = { "ssh-keygen", "-q",    "-t", "ed25519", "-N", "",
				     "-C",	   "khyve", "-f", u->key,    NULL };
	char dir[PATH_MAX];
	struct err err;

	if (file_path(dir, sizeof(dir), "%s/" VM_KEY_DIR, u->vm->store.dir) < 0 ||
	    (mkdir(dir, 0700) < 0 && errno != EEXIST))
		return ui_error("cannot make %s: %s", dir, strerror(errno));
	if (file_path(u->key, sizeof(u->key), "%s/" VM_KEY, u->vm->store.dir) < 0)
		return ui_error(K(053) "%s: the path is too long", dir);
	/* Half of one is worth nothing. */
	unlink(u->key);
	if (prog_run(argv, NULL, NULL, &err) < 0)
		return ui_error("%s", err.text);
	step("key", "made %s for vm ssh", u->key);
	return 0;
}

/* The caller's public key, or the store's. */
static int get_key(struct up *u)
{
	static const char *const own[] = { "id_ed25519", "id_ecdsa", "id_rsa" };
	const char *home = getenv("HOME");
	bool found = false;
	int r = 0;

	if (u->seed.key)
		return 0;
	for (size_t i = 0; home && !found && i < ARRAY_LEN(own); i++)
		found = file_path(u->key, sizeof(u->key), "%s/.ssh/%s.pub", home, own[i]) == 0 &&
			access(u->key, R_OK) == 0;
	if (!found)
		found = file_path(u->key, sizeof(u->key), "%s/" VM_KEY ".pub", u->vm->store.dir) ==
				0 &&
			access(u->key, R_OK) == 0;
	if (!found && vm_would(u->vm, "make a key for vm ssh"))
		return 0;
	if (!found) {
		r = make_key(u);
		if (r == 0 && strlen(u->key) + sizeof(".pub") <= sizeof(u->key))
			memcpy(u->key + strlen(u->key), ".pub", sizeof(".pub"));
	}
	u->seed.key = u->key;
	return r;
}

/* --- the guest --- */

/* Named as it was asked for, else after the image. */
static int choose_name(struct up *u)
{
	const char *name = u->name ? u->name : file_base(u->image);
	size_t len = u->name ? strlen(name) : strcspn(name, "?#");

	if (!u->name && (fetch_is_url(u->image) || !u->entry.name[0]))
		len = MIN(len, strcspn(name, "."));
	if (file_path(u->guest, sizeof(u->guest), "%.*s", (int)len, name) < 0 ||
	    !store_name_valid(u->guest))
		return ui_error("'%.64s' cannot be the name of a guest; give one: vm up %s NAME",
				u->guest, u->image);
	return 0;
}

static int create(struct up *u)
{
	struct progress progress;
	struct err err;
	int r;

	r = get_key(u);
	if (r == 0)
		r = get_image(u);
	if (r)
		return r;
	if (u->entry.user[0] && !u->spec.ssh_user)
		u->spec.ssh_user = u->entry.user;
	u->spec.image = u->path[0] ? u->path : NULL;
	u->spec.progress = ui_progress(&progress, file_base(u->path));
	u->spec.seed = &u->seed;
	if (!u->spec.cpu)
		u->spec.cpu = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? "2" : "1";
	if (!u->spec.memory)
		u->spec.memory = MEMORY;
	if (guest_create(&u->vm->store, u->guest, &u->spec, &err) < 0)
		return ui_error("%s", err.text);
	if (vm_would(u->vm, "create %s with %s CPU and %s of memory", u->guest, u->spec.cpu,
		     u->spec.memory))
		return 0;
	step("create", "%s: %s CPU, memory %s, disk %lluG", u->guest, u->spec.cpu, u->spec.memory,
	     (unsigned long long)((u->spec.disk_size ? u->spec.disk_size : GUEST_DISK_SIZE) >> 30));
	return 0;
}

static void say_ready(const struct up *u, const struct guest *g)
{
	struct gconf *conf = NULL;
	const char *user =
		gconf_load(g->conf, &conf, NULL) == 0 ? gconf_get(conf, "ssh_user") : NULL;

	if (user)
		step("ready", "vm ssh %s   (user %s)   vm console %s   vm stop %s", u->guest, user,
		     u->guest, u->guest);
	else
		step("ready", "vm ssh -l USER %s   vm console %s   vm stop %s", u->guest, u->guest,
		     u->guest);
	gconf_free(conf);
}

static int run(struct up *u)
{
	struct run_state state;
	struct guest g;
	struct err err;
	int r = 0;

	if (!u->vm->dry_run && store_make(&u->vm->store, true, &err) < 0)
		return ui_error("%s", err.text);
	if (!strchr(u->image, '/'))
		(void)catalogue_find(&u->vm->store, u->image, &u->entry, &err);
	r = choose_name(u);
	if (r)
		return r;
	if (store_find(&u->vm->store, u->guest, &g) == 0)
		step("create", "%s is there", u->guest);
	else
		r = create(u);
	if (r == 0 &&
	    vm_would(u->vm, "start %s unless it runs, and wait until it can be logged into",
		     u->guest))
		return 0;
	if (r || vm_find(u->vm, u->guest, &g))
		return r ? r : VM_FAILED;
	run_query(&g, &state);
	if (state.kind == RUN_RUNNING)
		step("start", "%s runs (pid %d)", u->guest, (int)state.pid);
	else
		r = vm_start(u->vm, u->guest);
	if (r)
		return r;
	step("wait", "until it can be logged into; 'vm console %s' shows what it does", u->guest);
	r = vm_wait_login(u->vm, u->guest, u->seconds);
	if (r == 0)
		say_ready(u, &g);
	else if (r == VM_TIMEOUT)
		step("wait", "it goes on; the same command waits again");
	return r;
}

int verb_up(struct vm *vm, int argc, char **argv)
{
	static const struct option longs[] = { { "offline", no_argument, NULL, 'o' },
					       { "timeout", required_argument, NULL, 'w' },
					       { 0 } };
	struct up u = { .vm = vm };
	uint64_t seconds = UP_SECONDS;
	struct err err;
	int c;

	while ((c = ui_options(argc, argv, "t:s:c:m:k:l:", longs)) != -1) {
		if (c == 'o')
			u.offline = true;
		else if (c == 'w' && (str_u64(optarg, &seconds) < 0 || seconds > 86400))
			return ui_error(K(004) "'%s' is not a number of seconds", optarg);
		else if (c == 't')
			u.spec.template = optarg;
		else if (c == 's' && guest_disk_size(optarg, &u.spec.disk_size, &err) < 0)
			return ui_error("%s", err.text);
		else if (c == 'c')
			u.spec.cpu = optarg;
		else if (c == 'm')
			u.spec.memory = optarg;
		else if (c == 'k')
			u.seed.key = optarg;
		else if (c == 'l')
			u.spec.ssh_user = optarg;
		else if (c == '?' || c == ':')
			return ui_usage(vm);
	}
	if (argc - optind < 1 || argc - optind > 2)
		return ui_usage(vm);
	u.image = argv[optind];
	u.name = argv[optind + 1];
	u.seconds = (unsigned)seconds;
	return run(&u);
}
