#include "devices/virtio/share/virtio_9p.hpp"

#include <fcntl.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>

#include "devices/virtio/share/folder_rig_test.hpp"
#include "devices/virtio/virtio_device.hpp"
#include "devices/virtio/virtio_rig_test.hpp"

using namespace viv;
using namespace viv::virtio;

namespace {

constexpr uint64_t request_at = 0x100000, answer_at = VirtioBoard::buffer;

/// Makes a request.
struct Request {
    explicit Request(uint8_t type) { message.begin(type, 0x1234); }
    Request& u8(uint8_t value) { return message.u8(value), *this; }
    Request& u16(uint16_t value) { return message.u16(value), *this; }
    Request& u32(uint32_t value) { return message.u32(value), *this; }
    Request& u64(uint64_t value) { return message.u64(value), *this; }
    Request& text(std::string_view value) { return message.string(value), *this; }
    Request& raw(std::string_view value) {
        for (const char c : value) message.u8(static_cast<uint8_t>(c));
        return *this;
    }
    P9Writer message;
};

struct Made {
    Virtio9p* server = nullptr;
};

struct Board : FolderRig, Made, VirtioBoard {
    explicit Board(SharedFolder::Access access = SharedFolder::Access::writable)
        : VirtioBoard([this, access] {
              auto folder = SharedFolder::open_folder(inside(), access);
              REQUIRE(folder);
              auto made = std::make_unique<Virtio9p>(std::move(*folder), "tag");
              server = made.get();
              return made;
          }) {}
    void mount() {
        start(0, 64);
        CHECK(call(Request(100).u32(1 << 20).text("9P2000.L")) == 0);
        CHECK(call(Request(104).u32(1).u32(~0u).text("root").text("").u32(0)) == 0);
    }
    /// The errno value of the answer; what is behind the head is in `answer`.
    int call(Request request, uint32_t room = 0x20000) {
        const auto bytes = request.message.finish();
        put(request_at, bytes);
        const auto used = run(0, {{request_at, static_cast<uint32_t>(bytes.size()), false}, {answer_at, room, true}});
        REQUIRE(used);
        if (used->written == 0) return -1;
        const auto all = bytes_at(answer_at, used->written);
        CHECK(memory.load<uint32_t>(Gpa{answer_at}) == used->written);
        CHECK((all[5] | all[6] << 8) == 0x1234);
        answer.assign(all.begin() + 7, all.end());
        if (all[4] == 7) return memory.load<int>(Gpa{answer_at + 7});
        CHECK(all[4] == bytes[4] + 1);
        return 0;
    }
    int walk(uint32_t from, uint32_t to, const std::vector<std::string>& names) {
        Request request(110);
        request.u32(from).u32(to).u16(static_cast<uint16_t>(names.size()));
        for (const auto& name : names) request.text(name);
        const int error = call(request);
        return error ? error : answer[0] == names.size() ? 0 : -static_cast<int>(answer[0]) - 10;
    }
    int lopen(uint32_t fid, uint32_t flags) { return call(Request(12).u32(fid).u32(flags)); }
    int clunk(uint32_t fid) { return call(Request(120).u32(fid)); }
    std::string read(uint32_t fid, uint64_t offset, uint32_t count) {
        if (call(Request(116).u32(fid).u64(offset).u32(count)) != 0) return "(error)";
        return {answer.begin() + 4, answer.end()};
    }
    int write(uint32_t fid, uint64_t offset, std::string_view data) {
        return call(Request(118).u32(fid).u64(offset).u32(static_cast<uint32_t>(data.size())).raw(data));
    }
    uint64_t size_of(uint32_t fid) {
        REQUIRE(call(Request(24).u32(fid).u64(0x7FF)) == 0);
        P9Reader fields(answer);
        fields.bytes(8 + 13 + 4 + 4 + 4 + 8 + 8);
        return fields.u64();
    }
    /// All names of a folder that is open, in order, so many bytes at a time.
    std::vector<std::string> names(uint32_t fid, uint32_t count) {
        std::vector<std::string> all;
        for (uint64_t offset = 0;;) {
            REQUIRE(call(Request(40).u32(fid).u64(offset).u32(count)) == 0);
            P9Reader fields(answer);
            if (fields.u32() == 0) break;
            CHECK(answer.size() - 4 <= count);
            while (fields.left() > 0) {
                fields.bytes(13);
                offset = fields.u64();
                fields.u8();
                all.push_back(fields.string());
            }
            REQUIRE(fields.good());
        }
        std::ranges::sort(all);
        return all;
    }
    std::vector<uint8_t> answer;
};
struct ClosedBoard : Board {};

}  // namespace

TEST_CASE("The shared folder keeps the device contract") {
    check_device_contract(VirtioBoard::closed<ClosedBoard>);
}

TEST_CASE("The tag is in the configuration, and the version is agreed on") {
    Board board;
    CHECK(board.configuration(0, 2) == 3);
    CHECK(board.configuration(2, 2) == ('t' | 'a' << 8));
    board.start(0, 64);
    CHECK(board.call(Request(100).u32(1u << 30).text("9P2000.L")) == 0);
    CHECK(P9Reader(board.answer).u32() == Virtio9p::most_message);
    CHECK(board.call(Request(100).u32(8192).text("9P2000.u")) == 0);
    CHECK(std::string(board.answer.begin() + 6, board.answer.end()) == "unknown");
    CHECK(board.call(Request(100).u32(100).text("9P2000.L")) == EINVAL);
    CHECK(board.call(Request(104).u32(1).u32(~0u).text("").text("/etc").u32(0)) == ENOENT);
    CHECK(board.call(Request(102).u32(1).text("").text("").u32(0)) == EOPNOTSUPP);
    CHECK(board.call(Request(112).u32(1).u8(0)) == EOPNOTSUPP);
    CHECK(board.call(Request(108).u16(7)) == 0);
}

TEST_CASE("Files are walked to, read, written and made") {
    Board board;
    board.mount();
    CHECK(board.walk(1, 2, {"d", "b"}) == 0);
    CHECK(board.lopen(2, O_RDWR) == 0);
    CHECK(board.read(2, 0, 100) == "beta");
    CHECK(board.read(2, 2, 100) == "ta");
    CHECK(board.read(2, 100, 100).empty());
    CHECK(board.write(2, 4, "max") == 0);
    CHECK(board.file("inside/d/b") == "betamax");
    CHECK(board.size_of(2) == 7);
    CHECK(board.lopen(2, O_RDWR) == EBADF);
    CHECK(board.call(Request(50).u32(2).u32(1)) == 0);
    CHECK(board.clunk(2) == 0);
    CHECK(board.clunk(2) == EBADF);

    CHECK(board.walk(1, 3, {"d"}) == 0);
    CHECK(board.call(Request(14).u32(3).text("new").u32(O_RDWR).u32(0640).u32(0)) == 0);
    CHECK(board.write(3, 0, "x") == 0);
    CHECK(board.file("inside/d/new") == "x");
    CHECK(board.call(Request(26).u32(3).u32(0x8).u32(0).u32(0).u32(0).u64(5).u64(0).u64(0).u64(0).u64(0)) == 0);
    CHECK(board.size_of(3) == 5);
    CHECK(board.call(Request(52).u32(3).u8(1).u32(0).u64(0).u64(0).u32(1).text("client")) == 0);
    CHECK(board.answer == std::vector<uint8_t>{0});
    CHECK(board.call(Request(54).u32(3).u8(1).u64(0).u64(9).u32(1).text("client")) == 0);
    CHECK(board.answer[0] == 2);
    // Removed while it is open, it is there for who has it.
    CHECK(board.call(Request(76).u32(1).text("d").u32(0)) != 0);
    CHECK(board.walk(1, 4, {"d"}) == 0);
    CHECK(board.call(Request(76).u32(4).text("new").u32(0)) == 0);
    CHECK(board.read(3, 0, 1) == "x");
    CHECK(board.size_of(3) == 5);
}

TEST_CASE("Walks stop where it does not go on, and never lead out") {
    Board board;
    board.mount();
    CHECK(board.walk(1, 2, {"no"}) == ENOENT);
    CHECK(board.walk(1, 2, {"d", "no", "b"}) == -11);
    CHECK(board.clunk(2) == EBADF);
    CHECK(board.walk(1, 2, {}) == 0);
    CHECK(board.walk(1, 2, {}) == EEXIST);
    CHECK(board.walk(9, 3, {}) == EBADF);
    CHECK(board.walk(2, 2, {"d"}) == 0);
    // Above the folder is the folder.
    CHECK(board.walk(2, 3, {"..", "..", "..", "outside"}) == -13);
    CHECK(board.walk(2, 3, {"..", "..", "a"}) == 0);
    CHECK(board.walk(1, 4, {"out", "secret"}) == -11);
    CHECK(board.walk(1, 4, {"d", "etc", "passwd"}) == -12);
    CHECK(board.walk(1, 4, {"../outside/secret"}) == ENOENT);
    CHECK(board.walk(1, 4, {"."}) == ENOENT);
    CHECK(board.walk(1, 4, {std::string("a\0", 2)}) == ENOENT);
    CHECK(board.walk(1, 4, {std::string(300, 'x')}) == ENOENT);
    CHECK(board.walk(1, 4, std::vector<std::string>(17, "d")) == EINVAL);
    CHECK(board.walk(1, 4, {"up"}) == 0);
    CHECK(board.lopen(4, O_RDONLY) == ELOOP);
    CHECK(board.call(Request(22).u32(4)) == 0);
    CHECK(P9Reader(board.answer).string() == "../outside/secret");
    CHECK(board.walk(4, 5, {"x"}) != 0);
    // What the guest makes leads it nowhere, either.
    CHECK(board.call(Request(16).u32(1).text("mine").text("/etc").u32(0)) == 0);
    CHECK(board.walk(1, 6, {"mine", "passwd"}) == -11);
    CHECK(board.call(Request(14).u32(1).text("../x").u32(O_RDWR).u32(0600).u32(0)) == EINVAL);
    CHECK(board.call(Request(18).u32(1).text("null").u32(020666).u32(1).u32(3).u32(0)) == EPERM);
    CHECK(board.call(Request(30).u32(1).u32(8).text("security.x")) == EOPNOTSUPP);
}

TEST_CASE("A folder is listed in pieces of any size") {
    Board board;
    for (int i = 0; i < 300; ++i)
        board.put_file("inside/d/" + std::string(static_cast<size_t>(1 + i % 200), 'n') + std::to_string(i), "");
    board.mount();
    CHECK(board.walk(1, 2, {"d"}) == 0);
    CHECK(board.call(Request(40).u32(2).u64(0).u32(1000)) == EBADF);
    CHECK(board.lopen(2, O_RDONLY | O_DIRECTORY) == 0);
    const auto all = board.names(2, 60000);
    CHECK(all.size() == 300 + 2 + 2);
    CHECK(std::ranges::binary_search(all, "etc"));
    CHECK(board.names(2, 400) == all);
    board.save_and_load();
    CHECK(board.names(2, 1000) == all);
    CHECK(board.call(Request(40).u32(2).u64(~uint64_t{0}).u32(1000)) == EINVAL);
    CHECK(board.write(2, 0, "x") != 0);
    CHECK(board.read(2, 0, 1) == "(error)");
}

TEST_CASE("The numbers of what is outside are not told") {
    Board board;
    board.mount();
    CHECK(board.walk(1, 2, {}) == 0);
    CHECK(board.lopen(2, O_RDONLY) == 0);
    CHECK(board.call(Request(40).u32(2).u64(0).u32(60000)) == 0);
    P9Reader fields(board.answer);
    fields.u32();
    std::map<std::string, uint64_t> numbers;
    while (fields.left()) {
        fields.bytes(5);
        const uint64_t number = fields.u64();
        fields.bytes(9);
        numbers[fields.string()] = number;
    }
    CHECK(numbers.at("..") == numbers.at("."));
}

TEST_CASE("Fids go along when their file is renamed, also one below") {
    Board board;
    board.mount();
    CHECK(board.walk(1, 2, {"d", "b"}) == 0);
    CHECK(board.walk(1, 3, {"d"}) == 0);
    CHECK(board.call(Request(72).u32(1).text("e").u32(0755).u32(0)) == 0);
    CHECK(board.walk(1, 4, {"e"}) == 0);
    CHECK(board.call(Request(74).u32(1).text("d").u32(4).text("f")) == 0);
    CHECK(board.lopen(2, O_RDONLY) == 0);
    CHECK(board.read(2, 0, 9) == "beta");
    CHECK(board.walk(3, 5, {"b"}) == 0);
    CHECK(board.call(Request(20).u32(5).u32(1).text("top")) == 0);
    CHECK(board.file("inside/top") == "beta");
    CHECK(board.read(2, 0, 9) == "beta");
    CHECK(board.size_of(5) == 4);
    CHECK(board.call(Request(20).u32(1).u32(4).text("root")) == EBUSY);
    CHECK(board.call(Request(74).u32(1).text("..").u32(4).text("f")) == EINVAL);
    CHECK(board.call(Request(70).u32(4).u32(5).text("again")) == 0);
    CHECK(board.file("inside/e/again") == "beta");
    CHECK(board.call(Request(122).u32(5)) == 0);
    CHECK(board.clunk(5) == EBADF);
    CHECK(board.call(Request(122).u32(1)) == EBUSY);
}

TEST_CASE("A saved machine finds its files again, and those that went are errors") {
    Board board;
    board.mount();
    CHECK(board.walk(1, 2, {"a"}) == 0);
    CHECK(board.lopen(2, O_RDWR | O_TRUNC) == 0);
    CHECK(board.write(2, 0, "kept") == 0);
    CHECK(board.walk(1, 3, {"d", "b"}) == 0);
    CHECK(board.lopen(3, O_RDONLY) == 0);
    board.save_and_load();
    CHECK(board.server->open_files() == 0);
    CHECK(board.read(2, 0, 9) == "kept");
    std::filesystem::remove(board.top / "inside/d/b");
    CHECK(board.call(Request(116).u32(3).u64(0).u32(9)) == ENOENT);
    // A path that leads out is none that was saved.
    TreeNode node = board.device->save();
    for (TreeNode& child : node.children) {
        if (child.name != "function") continue;
        for (TreeNode& fids : child.children) {
            if (fids.name == "fids") fids.children.at(1).set_string("path", "../outside/secret");
        }
    }
    CHECK_FALSE(board.device->prepare_load(node));
}

TEST_CASE("More files than may be open at once are opened in turn") {
    Board board;
    constexpr uint32_t count = Virtio9p::most_files + 40;
    for (uint32_t i = 0; i < count; ++i) board.put_file("inside/n" + std::to_string(i), std::to_string(i));
    board.mount();
    for (uint32_t i = 0; i < count; ++i) {
        CHECK(board.walk(1, 100 + i, {"n" + std::to_string(i)}) == 0);
        CHECK(board.lopen(100 + i, O_RDONLY) == 0);
    }
    CHECK(board.server->open_files() == Virtio9p::most_files);
    for (uint32_t i = 0; i < count; ++i) CHECK(board.read(100 + i, 0, 9) == std::to_string(i));
    CHECK(board.server->open_files() == Virtio9p::most_files);
    // A reset of the driver closes all.
    board.start(0, 64);
    CHECK(board.server->open_files() == 0);
    CHECK(board.clunk(100) == EBADF);
}

TEST_CASE("Fids and what they are called are limited") {
    Board board;
    board.mount();
    std::string path = "inside";
    std::vector<std::string> names;
    for (int i = 0; i < 15; ++i) {
        names.emplace_back(250, 'x');
        path += "/" + names.back();
    }
    std::filesystem::create_directories(board.top / path);
    uint32_t fid = 2;
    while (board.walk(1, fid, names) == 0) ++fid;
    CHECK(board.walk(1, fid, names) == ENFILE);
    CHECK(fid > 4000);
    CHECK(fid < 5000);
    CHECK(board.clunk(fid - 1) == 0);
    CHECK(board.walk(1, fid, names) == 0);
    // A rename that made all of them longer would not keep to it.
    CHECK(board.call(Request(74).u32(1).text(names[0]).u32(1).text(std::string(255, 'y'))) != 0);
    board.mount();
    for (fid = 2; fid < 2 + Virtio9p::most_fids && board.walk(1, fid, {}) == 0; ++fid) {
    }
    CHECK(fid == 1 + Virtio9p::most_fids);
}

TEST_CASE("What is no message is not answered, and what is cut short is refused") {
    Board board;
    board.mount();
    board.memory.store(Gpa{request_at}, uint32_t{6});
    CHECK(board.run(0, {{request_at, 7, false}, {answer_at, 100, true}})->written == 0);
    board.memory.store(Gpa{request_at}, uint32_t{100});
    CHECK(board.run(0, {{request_at, 50, false}, {answer_at, 100, true}})->written == 0);
    board.memory.store(Gpa{request_at}, Virtio9p::most_message + 1);
    CHECK(board.run(0, {{request_at, 0x100000, false}, {answer_at, 100, true}})->written == 0);
    CHECK(board.run(0, {{answer_at, 100, true}})->written == 0);
    for (unsigned type = 0; type < 128; ++type) {
        if (type == 108) continue;
        Request request(static_cast<uint8_t>(type));
        request.u16(0);
        CHECK(board.call(request) > 0);
    }
    // No room for the answer: an error, or nothing.
    CHECK(board.walk(1, 2, {"a"}) == 0);
    CHECK(board.call(Request(24).u32(2).u64(0), 20) == EMSGSIZE);
    CHECK(board.call(Request(24).u32(2).u64(0), 8) == -1);
    // A read gets as much as there is room for.
    CHECK(board.lopen(2, O_RDONLY) == 0);
    CHECK(board.call(Request(116).u32(2).u64(0).u32(~0u), 14) == 0);
    CHECK(board.answer.size() == 4 + 3);
    CHECK(board.call(Request(116).u32(2).u64(~uint64_t{0}).u32(1)) == EINVAL);
    CHECK(board.call(Request(118).u32(2).u64(0).u32(100).raw("short")) == EINVAL);
}

TEST_CASE("A folder shared for reading refuses every change by its number") {
    Board board(SharedFolder::Access::read_only);
    board.mount();
    CHECK(board.walk(1, 2, {"a"}) == 0);
    CHECK(board.lopen(2, O_RDWR) == EROFS);
    CHECK(board.lopen(2, O_RDONLY) == 0);
    CHECK(board.write(2, 0, "x") != 0);
    CHECK(board.call(Request(14).u32(1).text("n").u32(O_RDWR).u32(0600).u32(0)) == EROFS);
    CHECK(board.call(Request(72).u32(1).text("n").u32(0700).u32(0)) == EROFS);
    CHECK(board.call(Request(76).u32(1).text("a").u32(0)) == EROFS);
    CHECK(board.call(Request(26).u32(2).u32(0x8).u32(0).u32(0).u32(0).u64(5).u64(0).u64(0).u64(0).u64(0)) == EROFS);
    CHECK(board.file("inside/a") == "alpha");
}

TEST_CASE("A node of a shared folder needs a folder and a tag") {
    FolderRig rig;
    PciBoard board;
    board.node.set_cells("reg", std::array<uint32_t, 2>{5, 0});
    board.node.set_string("viv,function", "9p");
    CHECK_FALSE(board.try_make(make_virtio_pci, {}));
    board.node.set_string("viv,folder", rig.inside());
    CHECK(board.try_make(make_virtio_pci, {}));
    board.node.set_string("viv,tag", std::string(32, 't'));
    CHECK_FALSE(board.try_make(make_virtio_pci, {}));
    board.node.set_string("viv,tag", "t");
    board.node.set_string("viv,folder", rig.inside() + "/a");
    CHECK_FALSE(board.try_make(make_virtio_pci, {}));
}

namespace {

bool has_user_attributes(const FolderRig& rig) {
    const std::string path = rig.inside() + "/a";
    return setxattr(path.c_str(), "user.host", "h", 1, 0) == 0;
}

}  // namespace

TEST_CASE("Extended attributes of users are read, listed, written and removed") {
    Board board;
    if (!has_user_attributes(board)) VIV_SKIP("the host's file system has no extended attributes for users");
    board.mount();
    REQUIRE(board.walk(1, 2, {"a"}) == 0);
    const auto size_of_attribute = [&](uint32_t fid, uint32_t made, std::string_view name) {
        const int error = board.call(Request(30).u32(fid).u32(made).text(name));
        return error ? -error : static_cast<int>(P9Reader(board.answer).u64());
    };
    const auto set = [&](std::string_view name, std::string_view value, uint32_t flags, size_t size) {
        REQUIRE(board.walk(2, 9, {}) == 0);
        int error = board.call(Request(32).u32(9).text(name).u64(size).u32(flags));
        if (!error && !value.empty()) error = board.write(9, 0, value);
        const int end = board.clunk(9);
        return error ? error : end;
    };
    CHECK(size_of_attribute(2, 3, "user.host") == 1);
    CHECK(board.read(3, 0, 100) == "h");
    CHECK(board.read(3, 1, 100).empty());
    CHECK(board.read(3, ~0ull >> 1, 100).empty());
    CHECK(board.clunk(3) == 0);
    CHECK(set("user.mine", "a value", XATTR_CREATE, 7) == 0);
    CHECK(set("user.mine", "a value", XATTR_CREATE, 7) == EEXIST);
    CHECK(set("user.empty", "", 0, 0) == 0);
    CHECK(size_of_attribute(2, 3, "") == 31);
    // A saved machine goes on in the middle of it.
    board.save_and_load();
    std::string names = board.read(3, 0, 10);
    board.save_and_load();
    names += board.read(3, 10, 100);
    CHECK(names.size() == 31);
    CHECK(names.find(std::string("user.mine\0", 10)) != std::string::npos);
    CHECK(board.clunk(3) == 0);
    CHECK(size_of_attribute(2, 3, "user.mine") == 7);
    CHECK(board.read(3, 2, 3) == "val");
    CHECK(board.clunk(3) == 0);
    CHECK(set("user.mine", "", XATTR_REPLACE, 0) == 0);
    CHECK(size_of_attribute(2, 3, "user.mine") == -ENODATA);
    CHECK(set("user.mine", "", XATTR_REPLACE, 0) == ENODATA);
    CHECK(size_of_attribute(2, 3, "user.empty") == 0);
    CHECK(board.clunk(3) == 0);
    // In several pieces, without gaps, and whole.
    REQUIRE(board.walk(2, 9, {}) == 0);
    REQUIRE(board.call(Request(32).u32(9).text("user.pieces").u64(6).u32(0)) == 0);
    CHECK(board.write(9, 0, "abc") == 0);
    CHECK(board.write(9, 4, "x") == EINVAL);
    CHECK(board.write(9, 3, "defg") == ENOSPC);
    board.save_and_load();
    CHECK(board.write(9, 3, "def") == 0);
    CHECK(board.clunk(9) == 0);
    CHECK(size_of_attribute(2, 3, "user.pieces") == 6);
    CHECK(set("user.part", "ab", 0, 3) == EINVAL);
    CHECK(size_of_attribute(2, 4, "user.part") == -ENODATA);
}

TEST_CASE("Attributes that mean something to the host are neither seen nor set, nor those of links and devices") {
    Board board;
    if (!has_user_attributes(board)) VIV_SKIP("the host's file system has no extended attributes for users");
    board.mount();
    REQUIRE(board.walk(1, 2, {"a"}) == 0);
    const auto walk_attribute = [&](uint32_t fid, std::string_view name) {
        return board.call(Request(30).u32(fid).u32(7).text(name));
    };
    for (const std::string& name :
         {std::string("security.selinux"), std::string("system.posix_acl_access"), std::string("trusted.x"),
          std::string("user."), std::string("user.a\0b", 8), "user." + std::string(251, 'x')}) {
        INFO(name);
        CHECK(walk_attribute(2, name) == EOPNOTSUPP);
        CHECK(board.call(Request(32).u32(2).text(name).u64(1).u32(0)) == EOPNOTSUPP);
    }
    CHECK(board.call(Request(32).u32(2).text("user.x").u64(65'537).u32(0)) == E2BIG);
    CHECK(board.call(Request(32).u32(2).text("user.x").u64(~0ull).u32(0)) == E2BIG);
    CHECK(board.call(Request(32).u32(2).text("user.x").u64(1).u32(4)) == EINVAL);
    CHECK(board.call(Request(32).u32(77).text("user.x").u64(1).u32(0)) == EBADF);
    CHECK(walk_attribute(77, "user.x") == EBADF);
    CHECK(board.call(Request(30).u32(2).u32(1).text("user.host")) == EEXIST);
    // A link's are not those of what it leads to.
    REQUIRE(board.walk(1, 3, {"near"}) == 0);
    CHECK(walk_attribute(3, "user.host") == ENODATA);
    CHECK(walk_attribute(3, "") == 0);
    CHECK(P9Reader(board.answer).u64() == 0);
    CHECK(board.clunk(7) == 0);
    // What is for an attribute is no file.
    CHECK(walk_attribute(2, "user.host") == 0);
    CHECK(board.lopen(7, 0) == EBADF);
    CHECK(board.walk(7, 8, {}) == EBADF);
    CHECK(board.write(7, 0, "x") == EBADF);
    CHECK(walk_attribute(7, "user.host") == EBADF);
    // Room for values is room of paths.
    unsigned made = 0;
    while (made < 1000 && board.walk(2, 100 + made, {}) == 0 &&
           board.call(Request(32).u32(100 + made).text("user.x").u64(65'536).u32(0)) == 0)
        ++made;
    CHECK(made < 256);
    CHECK(made > 200);
    Board fixed(SharedFolder::Access::read_only);
    fixed.mount();
    REQUIRE(fixed.walk(1, 2, {"a"}) == 0);
    REQUIRE(fixed.call(Request(32).u32(2).text("user.x").u64(0).u32(0)) == 0);
    CHECK(fixed.clunk(2) == EROFS);
}
