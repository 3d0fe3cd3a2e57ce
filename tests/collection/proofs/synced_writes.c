/* Preloaded into a writer: keeps a log of what it writes and syncs below one directory, and of what it says
 * on its standard output, in the order in which both happen. tests/collection/proofs/synced_state.py reads
 * the log and says what a disk would hold that lost everything that was not synced.
 *
 * WATCHED: the directory, an absolute path without links. WRITE_LOG: the log, outside of it.
 *
 * A record: kind (1 byte), inode (u64), offset (u64), length (u64), then so many bytes.
 *   W  a write to a file            D  a write that is on disk when it returns (O_DSYNC, O_SYNC)
 *   F  the whole content of a file as it is synced (files that are not written by plain writes alone)
 *   S  a sync of a file of which every write was seen       T  its length is cut or extended to `offset`
 *   L  a directory is synced; the bytes are lines `inode type name` (type d or f)
 *   A  said on standard output
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static int log_descriptor = -1;
static char watched[PATH_MAX];

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwritev = dlsym(RTLD_NEXT, "pwritev64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    const char *directory = getenv("WATCHED"), *log = getenv("WRITE_LOG");
    if (directory == NULL || log == NULL) return;
    snprintf(watched, sizeof watched, "%s", directory);
    log_descriptor = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

/* Whether the descriptor is of a file or folder below the directory; fills in what it is. */
static int is_watched(int descriptor, struct stat *status, char *path) {
    if (log_descriptor < 0 || descriptor == log_descriptor || fstat(descriptor, status) != 0) return 0;
    if (!S_ISREG(status->st_mode) && !S_ISDIR(status->st_mode)) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0) return 0;
    path[size] = 0;
    size_t length = strlen(watched);
    return strncmp(path, watched, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static void put(const void *bytes, size_t size) {
    const char *next = bytes;
    while (size > 0) {
        ssize_t done = real_write(log_descriptor, next, size);
        if (done <= 0) abort(); /* a log with a hole would prove nothing */
        next += done;
        size -= done;
    }
}

static void note(char kind, uint64_t inode, uint64_t offset, const struct iovec *parts, int count, size_t size) {
    char head[25];
    uint64_t length = size;
    head[0] = kind;
    memcpy(head + 1, &inode, 8);
    memcpy(head + 9, &offset, 8);
    memcpy(head + 17, &length, 8);
    put(head, sizeof head);
    for (int part = 0; part < count && size > 0; part++) {
        size_t here = parts[part].iov_len < size ? parts[part].iov_len : size;
        put(parts[part].iov_base, here);
        size -= here;
    }
}

/* An inode that is free can become another file's, and the log would mix the two: whatever the log names is
 * kept open, in a way that takes no part in locks. */
static void keep(int descriptor, uint64_t inode) {
    static uint64_t kept[1 << 16];
    static int count;
    for (int each = 0; each < count; each++)
        if (kept[each] == inode) return;
    char own[64];
    snprintf(own, sizeof own, "/proc/self/fd/%d", descriptor);
    if (count == 1 << 16 || open(own, O_PATH | O_CLOEXEC) < 0) abort();
    kept[count++] = inode;
}

static int is_catalog(const char *path) {
    const char *name = strrchr(path, '/');
    return name != NULL && strcmp(name, "/data.mdb") == 0;
}

static char kind_of_write(int descriptor) {
    int flags = fcntl(descriptor, F_GETFL);
    return flags >= 0 && (flags & (O_DSYNC | O_SYNC)) ? 'D' : 'W';
}

/* LMDB's writes are noted one by one; any other file is noted whole when it is synced. */
static void noted_write(int descriptor, const struct iovec *parts, int count, off_t offset, ssize_t written) {
    struct stat status;
    char path[PATH_MAX];
    if (written <= 0) return;
    if (descriptor == STDOUT_FILENO) {
        if (log_descriptor < 0) return;
        note('A', 0, 0, parts, count, written);
    } else if (is_watched(descriptor, &status, path) && is_catalog(path)) {
        keep(descriptor, status.st_ino);
        note(kind_of_write(descriptor), status.st_ino, offset, parts, count, written);
    }
}

#define LOCKED(statement)                      \
    pthread_mutex_lock(&one_at_a_time);        \
    statement;                                 \
    pthread_mutex_unlock(&one_at_a_time)

ssize_t write(int descriptor, const void *bytes, size_t size) {
    struct iovec part = {(void *)bytes, size};
    ssize_t written;
    if (descriptor == STDOUT_FILENO) {
        /* Before it is said: whoever hears of it must find it in the log. */
        LOCKED(noted_write(descriptor, &part, 1, 0, size));
        return real_write(descriptor, bytes, size);
    }
    off_t offset = lseek(descriptor, 0, SEEK_CUR);
    LOCKED(written = real_write(descriptor, bytes, size); noted_write(descriptor, &part, 1, offset, written));
    return written;
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    ssize_t written;
    off_t offset = lseek(descriptor, 0, SEEK_CUR);
    LOCKED(written = real_writev(descriptor, parts, count);
           noted_write(descriptor, parts, count, offset, written));
    return written;
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t size, off_t offset) {
    struct iovec part = {(void *)bytes, size};
    ssize_t written;
    LOCKED(written = real_pwrite(descriptor, bytes, size, offset);
           noted_write(descriptor, &part, 1, offset, written));
    return written;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t size, off_t offset) {
    return pwrite64(descriptor, bytes, size, offset);
}

ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off_t offset) {
    ssize_t written;
    LOCKED(written = real_pwritev(descriptor, parts, count, offset);
           noted_write(descriptor, parts, count, offset, written));
    return written;
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    return pwritev64(descriptor, parts, count, offset);
}

int ftruncate64(int descriptor, off_t length) {
    struct stat status;
    char path[PATH_MAX];
    int answer;
    LOCKED(answer = real_ftruncate(descriptor, length);
           if (answer == 0 && is_watched(descriptor, &status, path) && is_catalog(path))
               note('T', status.st_ino, length, NULL, 0, 0));
    return answer;
}

int ftruncate(int descriptor, off_t length) { return ftruncate64(descriptor, length); }

static void note_content(int descriptor, const struct stat *status) {
    size_t size = status->st_size, done = 0;
    char *content = malloc(size + 1), own[64];
    /* The descriptor may be open for writing alone. */
    snprintf(own, sizeof own, "/proc/self/fd/%d", descriptor);
    int reading = open(own, O_RDONLY | O_CLOEXEC);
    if (content == NULL || reading < 0) abort();
    while (done < size) {
        ssize_t here = pread(reading, content + done, size - done, done);
        if (here <= 0) abort();
        done += here;
    }
    close(reading);
    struct iovec part = {content, size};
    note('F', status->st_ino, 0, &part, 1, size);
    free(content);
}

static void note_listing(const char *path, const struct stat *status) {
    char *lines = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&lines, &size);
    DIR *folder = opendir(path);
    if (text == NULL || folder == NULL) abort();
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char kind = entry->d_type == DT_DIR ? 'd' : 'f';
        fprintf(text, "%llu %c %s\n", (unsigned long long)entry->d_ino, kind, entry->d_name);
    }
    closedir(folder);
    fclose(text);
    struct iovec part = {lines, size};
    note('L', status->st_ino, 0, &part, 1, size);
    free(lines);
}

static void note_sync(int descriptor) {
    struct stat status;
    char path[PATH_MAX];
    if (!is_watched(descriptor, &status, path)) return;
    keep(descriptor, status.st_ino);
    if (S_ISDIR(status.st_mode)) note_listing(path, &status);
    else if (is_catalog(path)) note('S', status.st_ino, 0, NULL, 0, 0);
    else note_content(descriptor, &status);
}

int fsync(int descriptor) {
    int answer;
    LOCKED(answer = real_fsync(descriptor); if (answer == 0) note_sync(descriptor));
    return answer;
}

int fdatasync(int descriptor) {
    int answer;
    LOCKED(answer = real_fdatasync(descriptor); if (answer == 0) note_sync(descriptor));
    return answer;
}
