/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */

/*
 * libcurl, found when the first of its functions is called: it brings 25 other libraries along,
 * which cost every command more than its work, and only downloads need it. The functions have
 * libcurl's names, so that those who call them need not know.
 */
#include <curl/curl.h>
#include <dlfcn.h>
#include <stdarg.h>

/* Both are variadic functions, and macros that check types where the compiler can. */
#undef curl_easy_setopt
#undef curl_easy_getinfo

/* NULL: there is no such library, or it is another one. */
static void *find(const char *name)
{
	void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_NODELETE);

	if (!lib)
		lib = dlopen("libcurl-gnutls.so.4", RTLD_NOW | RTLD_NODELETE);
	return lib ? dlsym(lib, name) : NULL;
}

CURLcode curl_global_init(long flags)
{
	CURLcode (*fn)(long) = (CURLcode(*)(long))find("curl_global_init");

	return fn ? fn(flags) : CURLE_FAILED_INIT;
}

void curl_global_cleanup(void)
{
	void (*fn)(void) = (void (*)(void))find("curl_global_cleanup");

	if (fn)
		fn();
}

CURL *curl_easy_init(void)
{
	CURL *(*fn)(void) = (CURL * (*)(void)) find("curl_easy_init");

	return fn ? fn() : NULL;
}

void curl_easy_cleanup(CURL *curl)
{
	void (*fn)(CURL *) = (void (*)(CURL *))find("curl_easy_cleanup");

	if (fn)
		fn(curl);
}

/* Numbers and pointers alike have 64 bits here. */
CURLcode curl_easy_setopt(CURL *curl, CURLoption option, ...)
{
	CURLcode (*fn)(CURL *, CURLoption, ...) =
		(CURLcode(*)(CURL *, CURLoption, ...))find("curl_easy_setopt");
	va_list ap;
	void *value;

	va_start(ap, option);
	value = va_arg(ap, void *);
	va_end(ap);
	return fn ? fn(curl, option, value) : CURLE_FAILED_INIT;
}

CURLcode curl_easy_getinfo(CURL *curl, CURLINFO info, ...)
{
	CURLcode (*fn)(CURL *, CURLINFO, ...) =
		(CURLcode(*)(CURL *, CURLINFO, ...))find("curl_easy_getinfo");
	va_list ap;
	void *value;

	va_start(ap, info);
	value = va_arg(ap, void *);
	va_end(ap);
	return fn ? fn(curl, info, value) : CURLE_FAILED_INIT;
}

CURLcode curl_easy_perform(CURL *curl)
{
	CURLcode (*fn)(CURL *) = (CURLcode(*)(CURL *))find("curl_easy_perform");

	return fn ? fn(curl) : CURLE_FAILED_INIT;
}

const char *curl_easy_strerror(CURLcode code)
{
	const char *(*fn)(CURLcode) = (const char *(*)(CURLcode))find("curl_easy_strerror");

	return fn ? fn(code) : "libcurl is not installed";
}

struct curl_slist *curl_slist_append(struct curl_slist *list, const char *text)
{
	struct curl_slist *(*fn)(struct curl_slist *, const char *) =
		(struct curl_slist * (*)(struct curl_slist *, const char *))
			find("curl_slist_append");

	return fn ? fn(list, text) : NULL;
}

void curl_slist_free_all(struct curl_slist *list)
{
	void (*fn)(struct curl_slist *) =
		(void (*)(struct curl_slist *))find("curl_slist_free_all");

	if (fn)
		fn(list);
}
