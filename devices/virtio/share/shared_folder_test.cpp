#include "devices/virtio/share/shared_folder.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

#include "devices/virtio/share/folder_rig_test.hpp"

using namespace viv;

namespace {

struct Rig : FolderRig {
    explicit Rig(bool by_hand, SharedFolder::Access access = SharedFolder::Access::writable) {
        auto opened = SharedFolder::open_folder(inside(), access);
        REQUIRE(opened);
        folder = std::move(*opened);
        if (by_hand) folder->walk_by_hand();
    }
    int status(const std::string& path) {
        struct stat found {};
        return folder->status(path, found);
    }
    int open(const std::string& path, int flags) {
        SharedFile file;
        return folder->open(path, flags, file);
    }
    std::unique_ptr<SharedFolder> folder;
};

}  // namespace

TEST_CASE("A shared folder shows what is in it") {
    Rig rig(GENERATE(false, true));
    struct stat status {};
    CHECK(rig.folder->status("", status) == 0);
    CHECK(S_ISDIR(status.st_mode));
    CHECK(rig.folder->status("d/b", status) == 0);
    CHECK(status.st_size == 4);
    CHECK(rig.status("d/c") == ENOENT);
    CHECK(rig.status("a/b") == ENOTDIR);
    SharedFile file;
    REQUIRE(rig.folder->open("a", O_RDONLY, file) == 0);
    char text[6]{};
    CHECK(pread(file.get(), text, 5, 0) == 5);
    CHECK(std::string(text) == "alpha");
    CHECK(rig.open("", O_RDONLY) == 0);
    CHECK(rig.open("", O_RDWR) == EISDIR);
    CHECK(rig.open("a", O_RDONLY | O_DIRECTORY) == ENOTDIR);
}

TEST_CASE("No link leads out of a shared folder, nor do dots") {
    Rig rig(GENERATE(false, true));
    struct stat status {};
    CHECK(rig.folder->status("out", status) == 0);
    CHECK(S_ISLNK(status.st_mode));
    CHECK(rig.status("out/secret") != 0);
    CHECK(rig.status("d/etc/passwd") != 0);
    CHECK(rig.status("../outside/secret") != 0);
    CHECK(rig.status("d/../../outside") != 0);
    CHECK(rig.status("/etc/passwd") != 0);
    CHECK(rig.open("up", O_RDONLY) == ELOOP);
    CHECK(rig.open("near", O_RDONLY) == ELOOP);
    CHECK(rig.open("out/secret", O_RDWR) != 0);
    CHECK(rig.folder->set_size("up", 0) == ELOOP);
    SharedFile file;
    CHECK(rig.folder->create("out", "new", O_WRONLY, 0600, file) != 0);
    CHECK(rig.folder->create("", "../outside/new", O_WRONLY, 0600, file) == EINVAL);
    CHECK(rig.folder->create("", "..", O_WRONLY, 0600, file) == EINVAL);
    CHECK(rig.folder->create("", "up", O_WRONLY | O_TRUNC, 0600, file) == ELOOP);
    CHECK(rig.folder->make_folder("out", "new", 0700) != 0);
    CHECK(rig.folder->rename("", "a", "out", "a") != 0);
    CHECK(rig.folder->rename("out", "secret", "", "secret") != 0);
    CHECK(rig.folder->add_name("out/secret", "", "secret") != 0);
    CHECK(rig.folder->remove("out", "secret", SharedFolder::Kind::file) != 0);
    CHECK(rig.folder->set_mode("out/secret", 0777) != 0);
    struct timespec times[2]{{1, 0}, {1, 0}};
    CHECK(rig.folder->set_times("out/secret", times) != 0);
    CHECK(rig.file("outside/secret") == "secret");
    CHECK_FALSE(std::filesystem::exists(rig.top / "outside/new"));
    // A further name of a link is one of the link.
    CHECK(rig.folder->add_name("up", "", "also") == 0);
    CHECK(rig.folder->status("also", status) == 0);
    CHECK(S_ISLNK(status.st_mode));
}

TEST_CASE("A folder that becomes a link while it is used leads nowhere") {
    Rig rig(GENERATE(false, true));
    CHECK(rig.status("d/b") == 0);
    std::filesystem::rename(rig.top / "inside/d", rig.top / "inside/e");
    std::filesystem::create_symlink(rig.top / "outside", rig.top / "inside/d");
    CHECK(rig.status("d/secret") != 0);
    CHECK(rig.open("d/secret", O_RDONLY) != 0);
    SharedFile file;
    CHECK(rig.folder->create("d", "new", O_WRONLY, 0600, file) != 0);
    CHECK(rig.folder->rename("", "a", "d", "a") != 0);
    CHECK_FALSE(std::filesystem::exists(rig.top / "outside/new"));
}

TEST_CASE("A folder that another program exchanges for a link all the time leads nowhere, whatever is done in it") {
    Rig rig(GENERATE(false, true));
    const std::string there = rig.inside() + "/d", link = rig.inside() + "/out";
    rig.put_file("inside/d/secret", "of the folder");
    std::filesystem::permissions(rig.top / "outside/secret", std::filesystem::perms(0640));
    const pid_t other = fork();
    if (other == 0) {
        for (;;) static_cast<void>(renameat2(AT_FDCWD, there.c_str(), AT_FDCWD, link.c_str(), RENAME_EXCHANGE));
    }
    REQUIRE(other > 0);
    const SharedFolder& folder = *rig.folder;
    bool seen = false;
    for (unsigned round = 0; round < 200; ++round) {
        SharedFile file;
        struct stat status {};
        const struct timespec times[2]{{1, 0}, {1, 0}};
        std::vector<uint8_t> value;
        std::string target;
        char text[7]{};
        if (folder.open("d/secret", O_RDWR, file) == 0) {
            seen = seen || (pread(file.get(), text, 6, 0) == 6 && std::string(text) == "secret");
            static_cast<void>(pwrite(file.get(), "x", 1, 0));
        }
        for (const int result : {folder.status("d/secret", status),
                                 folder.set_mode("d/secret", 0777),
                                 folder.set_size("d/secret", 9),
                                 folder.set_times("d/secret", times),
                                 folder.set_owner("d/secret", 1, 1),
                                 folder.set_attribute("d/secret", "user.x", value, 0),
                                 folder.get_attribute("d/secret", "user.x", value),
                                 folder.remove_attribute("d/secret", "user.x"),
                                 folder.list_attributes("d/secret", value),
                                 folder.create("d", "new", O_RDWR, 0600, file),
                                 folder.rename("d", "new", "d", "newer"),
                                 folder.remove("d", "newer", SharedFolder::Kind::file),
                                 folder.add_name("a", "d", "name"),
                                 folder.remove("d", "name", SharedFolder::Kind::file),
                                 folder.make_folder("d", "sub", 0700),
                                 folder.remove("d", "sub", SharedFolder::Kind::folder),
                                 folder.make_link("d", "link", "a"),
                                 folder.read_link("d/link", target),
                                 folder.remove("d", "link", SharedFolder::Kind::file),
                                 folder.rename("", "a", "d", "a"),
                                 folder.rename("d", "a", "", "a"),
                                 folder.add_name("d/secret", "", "copy"),
                                 folder.remove("", "copy", SharedFolder::Kind::file)}) {
            // Done where it belongs or not at all; which of them is the other program's doing.
            CHECK(result >= 0);
        }
        REQUIRE(rig.file("outside/secret") == "secret");
    }
    kill(other, SIGKILL);
    waitpid(other, nullptr, 0);
    CHECK_FALSE(seen);
    struct stat status {};
    REQUIRE(lstat((rig.top / "outside/secret").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0640);
    CHECK(status.st_nlink == 1);
    CHECK(status.st_uid == getuid());
    CHECK(status.st_mtim.tv_sec != 1);
    const auto entries = std::filesystem::directory_iterator(rig.top / "outside");
    CHECK(std::distance(begin(entries), end(entries)) == 1);
}

TEST_CASE("FIFOs and devices are seen and not opened") {
    Rig rig(false);
    REQUIRE(mkfifo((rig.top / "inside/fifo").c_str(), 0600) == 0);
    struct stat status {};
    CHECK(rig.folder->status("fifo", status) == 0);
    CHECK(S_ISFIFO(status.st_mode));
    CHECK(rig.open("fifo", O_RDONLY) == EACCES);
    CHECK(rig.open("fifo", O_WRONLY) == EACCES);
    SharedFile file;
    CHECK(rig.folder->create("", "fifo", O_WRONLY, 0600, file) == EACCES);
}

TEST_CASE("Files, folders and links are made, changed and taken away") {
    Rig rig(GENERATE(false, true));
    SharedFolder& folder = *rig.folder;
    SharedFile file;
    CHECK(folder.create("d", "new", O_RDWR, 04755, file) == 0);
    CHECK(pwrite(file.get(), "text", 4, 0) == 4);
    CHECK(rig.file("inside/d/new") == "text");
    struct stat status {};
    CHECK(folder.status("d/new", status) == 0);
    CHECK((status.st_mode & 07777) == 0755);  // no set-user-ID
    CHECK(folder.create("d", "new", O_RDWR | O_EXCL, 0600, file) == EEXIST);
    CHECK(folder.create("d", "new", O_RDWR, 0600, file) == 0);
    CHECK(rig.file("inside/d/new") == "text");
    CHECK(folder.set_mode("d/new", 06600) == 0);
    CHECK(folder.set_size("d/new", 2) == 0);
    struct timespec times[2]{{1000, 0}, {2000, 5}};
    CHECK(folder.set_times("d/new", times) == 0);
    CHECK(folder.status("d/new", status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
    CHECK(status.st_size == 2);
    CHECK(status.st_mtim.tv_nsec == 5);
    CHECK(folder.set_owner("d/new", getuid(), getgid()) == 0);
    CHECK(folder.make_folder("", "f", 0777) == 0);
    CHECK(folder.status("f", status) == 0);
    CHECK((status.st_mode & 07777) == 0777);  // whatever viv's umask is
    CHECK(folder.make_folder("", "f", 0777) == EEXIST);
    CHECK(folder.rename("d", "new", "f", "newer") == 0);
    CHECK(folder.add_name("f/newer", "", "third") == 0);
    CHECK(rig.file("inside/third") == "te");
    CHECK(folder.make_link("f", "link", "/anywhere/../at all") == 0);
    std::string target;
    CHECK(folder.read_link("f/link", target) == 0);
    CHECK(target == "/anywhere/../at all");
    CHECK(folder.read_link("a", target) == EINVAL);
    CHECK(folder.remove("", "f", SharedFolder::Kind::file) != 0);
    CHECK(folder.remove("", "f", SharedFolder::Kind::folder) == ENOTEMPTY);
    CHECK(folder.remove("f", "link", SharedFolder::Kind::file) == 0);
    CHECK(folder.remove("f", "newer", SharedFolder::Kind::file) == 0);
    CHECK(folder.remove("", "f", SharedFolder::Kind::folder) == 0);
}

TEST_CASE("A folder shared for reading does not change") {
    Rig rig(false, SharedFolder::Access::read_only);
    SharedFolder& folder = *rig.folder;
    SharedFile file;
    struct timespec times[2]{};
    CHECK(folder.open("a", O_RDONLY, file) == 0);
    CHECK(folder.open("a", O_RDWR, file) == EROFS);
    CHECK(folder.open("a", O_RDONLY | O_TRUNC, file) == EROFS);
    CHECK(folder.create("", "n", O_RDONLY, 0600, file) == EROFS);
    CHECK(folder.create("", "a", O_RDONLY, 0600, file) == EROFS);
    CHECK(folder.make_folder("", "n", 0700) == EROFS);
    CHECK(folder.make_link("", "n", "a") == EROFS);
    CHECK(folder.add_name("a", "", "n") == EROFS);
    CHECK(folder.rename("", "a", "", "n") == EROFS);
    CHECK(folder.remove("", "a", SharedFolder::Kind::file) == EROFS);
    CHECK(folder.set_mode("a", 0) == EROFS);
    CHECK(folder.set_owner("a", 0, 0) == EROFS);
    CHECK(folder.set_size("a", 0) == EROFS);
    CHECK(folder.set_times("a", times) == EROFS);
    CHECK(rig.file("inside/a") == "alpha");
}

TEST_CASE("Names that cannot be are refused") {
    CHECK(SharedFolder::is_name("a"));
    CHECK(SharedFolder::is_name(std::string(255, 'x')));
    CHECK(SharedFolder::is_name("..."));
    for (const std::string name : {"", ".", "..", "a/b", "/"}) CHECK_FALSE(SharedFolder::is_name(name));
    CHECK_FALSE(SharedFolder::is_name(std::string(256, 'x')));
    CHECK_FALSE(SharedFolder::is_name(std::string("a\0b", 3)));
    Rig rig(false);
    CHECK(rig.status(std::string(5000, 'x')) == ENAMETOOLONG);
}

TEST_CASE("What is no folder is not shared") {
    FolderRig rig;
    CHECK_FALSE(SharedFolder::open_folder(rig.inside() + "/a", SharedFolder::Access::writable));
    const auto missing = SharedFolder::open_folder(rig.inside() + "/no", SharedFolder::Access::writable);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().message.find("/no'") != std::string::npos);
}
