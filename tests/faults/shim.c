/* Faults in a real process: every operation on files below one folder is counted, and one may kill.

   Loaded with LD_PRELOAD (glibc); does nothing until faults_arm() is called, and nothing in forked
   children (DataLoader workers). What to do and what was seen stand in a file that is mapped by this
   process and by the one that watches it: see Control in shim.py, which names the same words.

   Relative paths are resolved against the working folder or the descriptor's folder; symbolic links
   are not resolved. What is not seen: stdio, mmap, sendfile, copy_file_range. test_shim.py replays
   the log of whole runs and compares the result with the folder, so that it would be noticed. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum kind {
    OPEN, WRITE, FSYNC, FSYNC_FOLDER, RENAME, UNLINK, MKDIR, RMDIR, TRUNCATE, LINK, KINDS = 16
};

/* 8-byte words, in the order of shim.py's WORDS. */
struct control {
    int64_t kill_before; /* SIGKILL before this operation; -1: never */
    int64_t tear;        /* half of this write, then SIGKILL */
    int64_t fail_from;   /* this operation fails (of those on one file, where one is named) ... */
    int64_t fail_until;  /* ... and all before this one */
    int64_t fail_errno;
    int64_t log;         /* write every operation with its data to the log */
    _Atomic int64_t count;
    _Atomic int64_t active[KINDS]; /* operations that are being executed right now */
    _Atomic int64_t counts[KINDS];
};

struct record {
    int32_t kind, flags;
    int64_t number, inode, offset, length;
    int32_t error, path_bytes, second_bytes, data_bytes;
};

enum { CREATED = 1, TRUNCATED = 2, FOLDER = 4 };
enum { INSIDE = 1, IS_FOLDER = 2 };
#define FDS 65536

static struct control *control;
static atomic_int armed;
static char prefix[PATH_MAX];
static size_t prefix_bytes;
static unsigned char fds[FDS];
static char failing[PATH_MAX]; /* only operations whose path ends so may fail; empty: all */
static atomic_llong failing_seen;
static int log_fd = -1;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

#define REAL(result, name, ...) static result (*real_##name)(__VA_ARGS__)
REAL(int, open64, const char *, int, ...);
REAL(int, openat64, int, const char *, int, ...);
REAL(int, close, int);
REAL(ssize_t, write, int, const void *, size_t);
REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
REAL(int, fsync, int);
REAL(int, fdatasync, int);
REAL(int, rename, const char *, const char *);
REAL(int, renameat, int, const char *, int, const char *);
REAL(int, renameat2, int, const char *, int, const char *, unsigned);
REAL(int, unlink, const char *);
REAL(int, unlinkat, int, const char *, int);
REAL(int, mkdir, const char *, mode_t);
REAL(int, mkdirat, int, const char *, mode_t);
REAL(int, rmdir, const char *);
REAL(int, truncate64, const char *, off64_t);
REAL(int, ftruncate64, int, off64_t);
REAL(int, link, const char *, const char *);
REAL(int, linkat, int, const char *, int, const char *, int);

static void disarm_child(void) { armed = 0; }

__attribute__((constructor)) static void find_real(void) {
#define FIND(name) real_##name = dlsym(RTLD_NEXT, #name)
    FIND(open64); FIND(openat64); FIND(close); FIND(write); FIND(pwrite64); FIND(fsync);
    FIND(fdatasync); FIND(rename); FIND(renameat); FIND(renameat2); FIND(unlink); FIND(unlinkat);
    FIND(mkdir); FIND(mkdirat); FIND(rmdir); FIND(truncate64); FIND(ftruncate64); FIND(link);
    FIND(linkat);
    pthread_atfork(NULL, NULL, disarm_child);
}

/* Begin: operations below `folder` (a real path) are watched; `path` is the control file; `log_path`
   is the log, or empty; only operations whose path ends with `only` fail, where it is not empty.
   Returns 0, or the errno. */
int faults_arm(const char *folder, const char *path, const char *log_path, const char *only) {
    int fd = real_open64(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno;
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    real_close(fd);
    if (control == MAP_FAILED) return errno;
    if (*log_path) {
        fd = real_open64(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (fd < 0) return errno;
        log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 500);
        real_close(fd);
    }
    prefix_bytes = strlen(folder);
    memcpy(prefix, folder, prefix_bytes + 1);
    snprintf(failing, sizeof failing, "%s", only);
    armed = 1;
    return 0;
}

void faults_disarm(void) { armed = 0; }

/* The absolute path without "." and "..", in `out`; true when it is below the folder. */
static int is_inside(int folder, const char *path, char *out) {
    char whole[2 * PATH_MAX];
    whole[0] = 0;
    if (path[0] != '/') {
        if (folder == AT_FDCWD) {
            if (!getcwd(whole, PATH_MAX)) return 0;
        } else {
            char name[64];
            snprintf(name, sizeof name, "/proc/self/fd/%d", folder);
            ssize_t n = readlink(name, whole, PATH_MAX - 1);
            if (n < 0) return 0;
            whole[n] = 0;
        }
        strcat(whole, "/");
    }
    strncat(whole, path, PATH_MAX - 1);
    size_t at = 0;
    for (char *part = strtok(whole, "/"); part; part = strtok(NULL, "/")) {
        if (!strcmp(part, ".")) continue;
        if (!strcmp(part, "..")) {
            while (at && out[--at] != '/') {}
            continue;
        }
        size_t n = strlen(part);
        if (at + n + 2 > PATH_MAX) return 0;
        out[at++] = '/';
        memcpy(out + at, part, n);
        at += n;
    }
    out[at] = 0;
    return !strncmp(out, prefix, prefix_bytes) && (out[prefix_bytes] == '/' || !out[prefix_bytes]);
}

static int path_of(int fd, char *out) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(name, out, PATH_MAX - 1);
    out[n < 0 ? 0 : n] = 0;
    return n >= 0;
}

static int64_t inode_of(int fd) {
    struct stat64 found;
    return fstat64(fd, &found) ? 0 : (int64_t)found.st_ino;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

struct operation {
    struct record record;
    int locked;
};

/* Count an operation, and kill before it. */
static struct operation begin(enum kind kind) {
    struct operation op;
    memset(&op, 0, sizeof op);
    if (control->log) {
        pthread_mutex_lock(&one_at_a_time);
        op.locked = 1;
    }
    op.record.kind = kind;
    op.record.number = atomic_fetch_add(&control->count, 1);
    atomic_fetch_add(&control->active[kind], 1);
    atomic_fetch_add(&control->counts[kind], 1);
    if (op.record.number == control->kill_before) die();
    return op;
}

static void end(struct operation *op, int failed, const char *path, const char *second,
                const void *data) {
    int code = errno;
    op->record.error = failed ? code : 0;
    if (op->locked && log_fd >= 0) {
        op->record.path_bytes = (int32_t)strlen(path);
        op->record.second_bytes = (int32_t)strlen(second);
        op->record.data_bytes = data && !failed ? (int32_t)op->record.length : 0;
        real_write(log_fd, &op->record, sizeof op->record);
        real_write(log_fd, path, op->record.path_bytes);
        real_write(log_fd, second, op->record.second_bytes);
        if (op->record.data_bytes) real_write(log_fd, data, op->record.data_bytes);
    }
    atomic_fetch_sub(&control->active[op->record.kind], 1);
    if (op->locked) pthread_mutex_unlock(&one_at_a_time);
    errno = code;
}

/* Whether an operation shall fail; errno says how. The number of an operation depends on what other
   threads do at the time, its number among those on one file does not. */
static int fails(const struct operation *op, const char *path) {
    long long number = op->record.number;
    int kind = op->record.kind;
    if (*failing) {
        size_t size = strlen(path), tail = strlen(failing);
        if (size < tail || strcmp(path + size - tail, failing)) return 0;
        number = atomic_fetch_add(&failing_seen, 1);
    }
    if (number < control->fail_from || number >= control->fail_until) return 0;
    if ((control->fail_errno == ENOSPC || control->fail_errno == EDQUOT)
        && (kind == UNLINK || kind == RMDIR))
        return 0; /* a full disk lets things go */
    errno = (int)control->fail_errno;
    return 1;
}

static void note_fd(int fd, int what) {
    if (fd >= 0 && fd < FDS) fds[fd] = (unsigned char)what;
}

static int watched(int fd) { return armed && fd >= 0 && fd < FDS && fds[fd]; }

/* -- opening and closing -------------------------------------------------------------------- */

static int open_any(int folder, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    if (!armed || !is_inside(folder, path, whole))
        return real_openat64(folder, path, flags, mode);
    if ((flags & O_ACCMODE) == O_RDONLY && !(flags & (O_CREAT | O_TRUNC))) {
        int fd = real_openat64(folder, path, flags, mode);
        struct stat64 found;
        if (fd >= 0 && !fstat64(fd, &found)) note_fd(fd, S_ISDIR(found.st_mode) ? IS_FOLDER : INSIDE);
        return fd;
    }
    struct stat64 before;
    struct operation op = begin(OPEN);
    int was = !fstatat64(folder, path, &before, AT_SYMLINK_NOFOLLOW);
    int fd = fails(&op, whole) ? -1 : real_openat64(folder, path, flags, mode);
    if (fd >= 0) {
        note_fd(fd, INSIDE);
        op.record.inode = inode_of(fd);
        op.record.flags = (was ? 0 : CREATED) | ((flags & O_TRUNC) ? TRUNCATED : 0);
    }
    end(&op, fd < 0, whole, "", NULL);
    return fd;
}

#define MODE(flags)                                    \
    mode_t mode = 0;                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {             \
        va_list rest;                                  \
        va_start(rest, flags);                         \
        mode = va_arg(rest, mode_t);                   \
        va_end(rest);                                  \
    }

int open(const char *path, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return open_any(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return open_any(folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd) {
    if (fd >= 0 && fd < FDS) fds[fd] = 0;
    return real_close(fd);
}

/* -- content --------------------------------------------------------------------------------- */

static ssize_t write_any(int fd, const void *data, size_t size, off64_t offset, int at_offset) {
    char path[PATH_MAX];
    struct operation op = begin(WRITE);
    path_of(fd, path);
    op.record.inode = inode_of(fd);
    if (at_offset) {
        op.record.offset = offset;
    } else if (fcntl(fd, F_GETFL) & O_APPEND) {
        struct stat64 found;
        op.record.offset = fstat64(fd, &found) ? 0 : found.st_size;
    } else {
        op.record.offset = lseek64(fd, 0, SEEK_CUR);
    }
    int torn = op.record.number == control->tear;
    if (torn) size /= 2;
    ssize_t done = -1;
    if (!fails(&op, path))
        done = at_offset ? real_pwrite64(fd, data, size, offset) : real_write(fd, data, size);
    op.record.length = done;
    end(&op, done < 0, path, "", data);
    if (torn) die();
    return done;
}

ssize_t write(int fd, const void *data, size_t size) {
    return watched(fd) ? write_any(fd, data, size, 0, 0) : real_write(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return watched(fd) ? write_any(fd, data, size, offset, 1) : real_pwrite64(fd, data, size, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    return watched(fd) ? write_any(fd, data, size, offset, 1) : real_pwrite64(fd, data, size, offset);
}

static int sync_any(int fd, int (*real)(int)) {
    if (!watched(fd)) return real(fd);
    char path[PATH_MAX];
    struct operation op = begin(fds[fd] == IS_FOLDER ? FSYNC_FOLDER : FSYNC);
    path_of(fd, path);
    op.record.inode = inode_of(fd);
    int failed = fails(&op, path) ? -1 : real(fd);
    end(&op, failed, path, "", NULL);
    return failed;
}

int fsync(int fd) { return sync_any(fd, real_fsync); }
int fdatasync(int fd) { return sync_any(fd, real_fdatasync); }

static int ftruncate_any(int fd, off64_t size) {
    if (!watched(fd)) return real_ftruncate64(fd, size);
    char path[PATH_MAX];
    struct operation op = begin(TRUNCATE);
    path_of(fd, path);
    op.record.inode = inode_of(fd);
    op.record.offset = size;
    int failed = fails(&op, path) ? -1 : real_ftruncate64(fd, size);
    end(&op, failed, path, "", NULL);
    return failed;
}

int ftruncate(int fd, off_t size) { return ftruncate_any(fd, size); }
int ftruncate64(int fd, off64_t size) { return ftruncate_any(fd, size); }

static int truncate_any(const char *path, off64_t size) {
    char whole[PATH_MAX];
    if (!armed || !is_inside(AT_FDCWD, path, whole)) return real_truncate64(path, size);
    struct operation op = begin(TRUNCATE);
    struct stat64 found;
    op.record.inode = stat64(path, &found) ? 0 : (int64_t)found.st_ino;
    op.record.offset = size;
    int failed = fails(&op, whole) ? -1 : real_truncate64(path, size);
    end(&op, failed, whole, "", NULL);
    return failed;
}

int truncate(const char *path, off_t size) { return truncate_any(path, size); }
int truncate64(const char *path, off64_t size) { return truncate_any(path, size); }

/* -- names ----------------------------------------------------------------------------------- */

/* An operation on one name; `call` is the real one. */
#define ON_NAME(kind, folder, path, what, call)                            \
    char whole[PATH_MAX];                                                  \
    if (!armed || !is_inside(folder, path, whole)) return call;            \
    struct operation op = begin(kind);                                     \
    op.record.flags = what;                                                \
    int failed = fails(&op, whole) ? -1 : call;                            \
    end(&op, failed, whole, "", NULL);                                     \
    return failed;

/* An operation on two names, watched when either is inside. */
#define ON_NAMES(kind, from, old, to, new, call)                           \
    char whole[PATH_MAX], second[PATH_MAX];                                \
    if (!armed || !(is_inside(from, old, whole) | is_inside(to, new, second))) return call; \
    struct operation op = begin(kind);                                     \
    int failed = fails(&op, whole) ? -1 : call;                            \
    end(&op, failed, whole, second, NULL);                                 \
    return failed;

int rename(const char *old, const char *new) {
    ON_NAMES(RENAME, AT_FDCWD, old, AT_FDCWD, new, real_rename(old, new))
}
int renameat(int from, const char *old, int to, const char *new) {
    ON_NAMES(RENAME, from, old, to, new, real_renameat(from, old, to, new))
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    ON_NAMES(RENAME, from, old, to, new, real_renameat2(from, old, to, new, flags))
}
int link(const char *old, const char *new) {
    ON_NAMES(LINK, AT_FDCWD, old, AT_FDCWD, new, real_link(old, new))
}
int linkat(int from, const char *old, int to, const char *new, int flags) {
    ON_NAMES(LINK, from, old, to, new, real_linkat(from, old, to, new, flags))
}
int unlink(const char *path) { ON_NAME(UNLINK, AT_FDCWD, path, 0, real_unlink(path)) }
int rmdir(const char *path) { ON_NAME(RMDIR, AT_FDCWD, path, 0, real_rmdir(path)) }
int unlinkat(int folder, const char *path, int flags) {
    ON_NAME((flags & AT_REMOVEDIR) ? RMDIR : UNLINK, folder, path, 0, real_unlinkat(folder, path, flags))
}
int mkdir(const char *path, mode_t mode) { ON_NAME(MKDIR, AT_FDCWD, path, 0, real_mkdir(path, mode)) }
int mkdirat(int folder, const char *path, mode_t mode) {
    ON_NAME(MKDIR, folder, path, 0, real_mkdirat(folder, path, mode))
}
