#include "vmm/cli/image_command.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "devices/storage/image/image_chain.hpp"
#include "devices/storage/image/qcow2_check.hpp"
#include "vmm/cli/help.hpp"
#include "vmm/cli/options.hpp"

namespace viv::cli {
namespace {

namespace json = boost::json;
using qcow2::Header;

struct Options {
    std::vector<std::string> files;
    std::string format;
    std::string source_format;
    std::string backing;
    std::string backing_format;
    std::string cluster_size = "64K";
    std::string compression = "zlib";
    std::string preallocation = "off";
    std::string repair = "none";
    unsigned version = 3;
    unsigned refcount_bits = 16;
    bool lazy_refcounts = false;
    bool extended_l2 = false;
    bool compress = false;
    bool force = false;
    bool shrink = false;
    bool chain = false;
    bool unsafe = false;
    bool json = false;
};

void print(const std::string& text) {
    std::fputs(text.c_str(), stdout);
}

/// A bar on stderr, where that is a terminal.
class Bar {
  public:
    explicit Bar(std::string what) : what_(std::move(what)), shown_(isatty(STDERR_FILENO) != 0) {}
    Bar(const Bar&) = delete;
    Bar& operator=(const Bar&) = delete;
    ~Bar() {
        if (shown_ && percent_ >= 0) std::fputs("\r\033[K", stderr);
    }
    void show(uint64_t done, uint64_t total) {
        const int percent =
            total == 0 ? 100 : static_cast<int>(static_cast<double>(done) * 100 / static_cast<double>(total));
        if (!shown_ || percent == percent_) return;
        percent_ = percent;
        std::fputs(fmt::format("\r{} [{:<40}] {:3}%", what_, std::string(static_cast<size_t>(percent) * 40 / 100, '#'),
                               percent)
                       .c_str(),
                   stderr);
    }

  private:
    std::string what_;
    bool shown_;
    int percent_ = -1;
};

Result<std::optional<ImageFormat>> format_of(const std::string& name, const char* option) {
    if (name.empty()) return std::nullopt;
    if (name == "raw") return ImageFormat::raw;
    if (name == "qcow2") return ImageFormat::qcow2;
    return fail_usage(fmt::format("{}: there is no '{}'; use raw or qcow2", option, name));
}

Result<std::unique_ptr<DiskImage>> open_source(const std::string& path, const std::string& format) {
    auto [file, snapshot] = split_snapshot(path);
    const auto known = TRY(format_of(format, "--source-format"));
    return open_image({std::move(file), ImageAccess::read_only, known, std::move(snapshot), true, {}});
}

Result<uint64_t> whole_sectors(const std::string& text) {
    const uint64_t size = TRY(parse_size(text));
    if (size == 0 || size > uint64_t{1} << 61) return fail_usage(fmt::format("'{}' is no size of a disk", text));
    return (size + 511) / 512 * 512;
}

Result<Header> header_for(const Options& options, uint64_t size) {
    Header header;
    header.size = size;
    const uint64_t cluster = TRY(parse_size(options.cluster_size));
    if (cluster < 512 || cluster > 2 << 20 || !std::has_single_bit(cluster)) {
        return fail_usage("--cluster-size: a power of two from 512 to 2M");
    }
    header.cluster_bits = static_cast<uint32_t>(std::countr_zero(cluster));
    if (options.version != 2 && options.version != 3) return fail_usage("--version: 2 or 3");
    header.version = options.version;
    if (!std::has_single_bit(options.refcount_bits) || options.refcount_bits > 64) {
        return fail_usage("--refcount-bits: 1, 2, 4, 8, 16, 32 or 64");
    }
    header.refcount_order = static_cast<uint32_t>(std::countr_zero(options.refcount_bits));
    if (options.lazy_refcounts) header.compatible |= qcow2::compatible_lazy_refcounts;
    if (options.extended_l2) header.incompatible |= qcow2::incompatible_extended_l2;
    if (options.compression == "zstd") {
        header.compression = qcow2::Compression::zstd;
        header.incompatible |= qcow2::incompatible_compression_type;
    } else if (options.compression != "zlib") {
        return fail_usage(fmt::format("--compression: there is no '{}'; use zlib or zstd", options.compression));
    }
    const bool plain = header.refcount_order == 4 && header.compatible == 0 && header.incompatible == 0;
    if (header.version == 2 && !plain)
        return fail_usage("version 2 of qcow2 has none of the newer features; leave --version out");
    if (options.extended_l2 && header.cluster_bits < 14)
        return fail_usage("--extended-l2 needs clusters of 16K or more");
    header.backing_file = options.backing;
    header.backing_format = options.backing_format;
    return header;
}

/// A file that gets its name when it is complete.
class NewFile {
  public:
    static Result<std::unique_ptr<NewFile>> make(const std::string& path, bool replace) {
        struct stat info {};
        if (!replace && lstat(path.c_str(), &info) == 0) {
            return fail(fmt::format("'{}' exists; give --force to replace it", path));
        }
        const size_t slash = path.rfind('/');
        const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
        std::string name =
            fmt::format("{}.{}.XXXXXX", folder, slash == std::string::npos ? path : path.substr(slash + 1));
        const int fd = mkostemp(name.data(), O_CLOEXEC);
        if (fd < 0) return fail_errno(fmt::format("cannot make '{}'", path), errno);
        return std::unique_ptr<NewFile>(new NewFile(fd, path, std::move(name), replace));
    }
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;
    ~NewFile() {
        if (!name_.empty()) unlink(name_.c_str());
        close(fd_);
    }
    /// For the one who writes the content.
    [[nodiscard]] std::unique_ptr<ImageFile> file() const {
        struct stat info {};
        const uint64_t size = fstat(fd_, &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
        return make_image_file(fcntl(fd_, F_DUPFD_CLOEXEC, 0), path_, size);
    }
    Result<void> complete() {
        const mode_t mask = umask(0);
        umask(mask);
        const unsigned keep = replace_ ? 0U : unsigned{RENAME_NOREPLACE};
        if (fchmod(fd_, 0666 & ~mask) != 0 || fsync(fd_) != 0 ||
            renameat2(AT_FDCWD, name_.c_str(), AT_FDCWD, path_.c_str(), keep) != 0) {
            return fail_errno(fmt::format("cannot make '{}'", path_), errno);
        }
        name_.clear();
        return {};
    }

  private:
    NewFile(int fd, std::string path, std::string name, bool replace)
        : fd_(fd), path_(std::move(path)), name_(std::move(name)), replace_(replace) {}
    int fd_;
    std::string path_;
    std::string name_;
    bool replace_;
};

std::unexpected<Error> no_room(const std::string& path) {
    return fail(fmt::format("cannot write '{}': the host's disk is full or failed", path));
}

Result<std::unique_ptr<Qcow2Image>> make_qcow2(const NewFile& made, const std::string& path, const Header& wanted) {
    auto file = made.file();
    if (auto formatted = format_qcow2(*file, wanted); !formatted) {
        return add_context(formatted.error(), fmt::format("cannot make '{}'", path));
    }
    const Header header = TRY(read_qcow2_header(*file, path));
    return Qcow2Image::open(std::move(file), path, header, nullptr, ImageAccess::writable);
}

Result<void> preallocate(const Options& options, Qcow2Image& image) {
    if (options.preallocation == "off") return {};
    if (options.preallocation != "metadata" && options.preallocation != "falloc") {
        return fail_usage(
            fmt::format("--preallocation: there is no '{}'; use off, metadata or falloc", options.preallocation));
    }
    if (!options.backing.empty()) return fail_usage("--preallocation would hide the backing file");
    if (image.allocate_all() != DiskStatus::ok) return no_room(image.name());
    if (options.preallocation == "falloc" && image.file().reserve(0, image.file().size()) != DiskStatus::ok)
        return no_room(image.name());
    return {};
}

Result<int> create(Options& options) {
    if (options.files.empty() || options.files.size() > 2)
        return fail_usage("viv image create FILE SIZE; see viv image --help");
    const std::string& path = options.files[0];
    const auto format = TRY(format_of(options.format, "--format")).value_or(ImageFormat::qcow2);
    uint64_t size = 0;
    if (!options.backing.empty()) {
        if (format == ImageFormat::raw) return fail_usage("a raw image has no backing file; leave --format out");
        const auto known = TRY(format_of(options.backing_format, "--backing-format"));
        if (!known) return fail_usage("--backing needs --backing-format raw or qcow2: nobody else may say what it is");
        const std::string below = TRY(backing_path(path, options.backing));
        size = TRY(open_image({below, ImageAccess::read_only, known, {}, true, {}}))->size();
    }
    if (options.files.size() == 2) size = TRY(whole_sectors(options.files[1]));
    if (size == 0) return fail_usage("viv image create needs a size: viv image create disk.qcow2 20G");
    const auto made = TRY(NewFile::make(path, options.force));
    if (format == ImageFormat::raw) {
        const auto file = made->file();
        const bool reserve = options.preallocation == "falloc";
        if (file->resize(size) != DiskStatus::ok || (reserve && file->reserve(0, size) != DiskStatus::ok))
            return no_room(path);
    } else {
        const Header header = TRY(header_for(options, size));
        const auto image = TRY(make_qcow2(*made, path, header));
        TRY(preallocate(options, *image));
    }
    TRY(made->complete());
    return 0;
}

json::object describe(const std::string& path, DiskImage& image) {
    json::object about{{"file", path}, {"virtual-size", image.size()}};
    struct stat info {};
    if (stat(split_snapshot(path).first.c_str(), &info) == 0)
        about["file-size"] = static_cast<uint64_t>(info.st_blocks) * 512;
    const auto* qcow2_image = dynamic_cast<Qcow2Image*>(&image);
    about["format"] = qcow2_image ? "qcow2" : "raw";
    if (!qcow2_image) return about;
    const Header& header = qcow2_image->header();
    about["version"] = header.version;
    about["cluster-size"] = header.cluster_size();
    about["compression"] = header.compression == qcow2::Compression::zstd ? "zstd" : "zlib";
    about["refcount-bits"] = 1U << header.refcount_order;
    about["lazy-refcounts"] = header.lazy_refcounts();
    about["extended-l2"] = header.extended_l2();
    about["dirty"] = (header.incompatible & qcow2::incompatible_dirty) != 0;
    about["corrupt"] = (header.incompatible & qcow2::incompatible_corrupt) != 0;
    if (header.has_backing()) {
        about["backing-file"] = header.backing_file;
        if (!header.backing_format.empty()) about["backing-format"] = header.backing_format;
    }
    json::array snapshots;
    for (const qcow2::Snapshot& snapshot : qcow2_image->snapshots()) {
        snapshots.push_back({{"id", snapshot.id},
                             {"name", snapshot.name},
                             {"seconds", snapshot.seconds},
                             {"vm-state-size", snapshot.vm_state_size}});
    }
    if (!snapshots.empty()) about["snapshots"] = std::move(snapshots);
    return about;
}

Result<int> info(Options& options) {
    if (options.files.size() != 1) return fail_usage("viv image info FILE; see viv image --help");
    json::array all;
    std::string path = options.files[0];
    std::optional<ImageFormat> format = TRY(format_of(options.source_format, "--source-format"));
    constexpr int most = 64;
    for (int depth = 0; depth < most && !path.empty(); ++depth) {
        auto [file, snapshot] = split_snapshot(path);
        ImageRequest request{file, ImageAccess::read_only, format, snapshot, false, {}};
        const auto image = TRY(open_image(std::move(request)));
        all.push_back(describe(path, *image));
        const auto* top = dynamic_cast<Qcow2Image*>(image.get());
        if (!options.chain || !top || !top->header().has_backing()) break;
        path = TRY(backing_path(file, top->header().backing_file));
        format = top->header().backing_format == "qcow2" ? ImageFormat::qcow2 : ImageFormat::raw;
    }
    if (options.json) {
        print((options.chain ? json::serialize(all) : json::serialize(all[0])) + "\n");
        return 0;
    }
    for (const json::value& one : all) {
        for (const auto& [key, value] : one.as_object()) {
            const std::string text = value.is_string() ? std::string(value.as_string()) : json::serialize(value);
            // Names in an image may hold anything.
            std::string shown = text;
            std::ranges::replace_if(
                shown, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7F; }, '?');
            print(fmt::format("{:16} {}\n", std::string(key) + ":", shown));
        }
        if (all.size() > 1) print("\n");
    }
    return 0;
}

Result<int> check(Options& options) {
    if (options.files.size() != 1) return fail_usage("viv image check FILE; see viv image --help");
    Repair repair = Repair::none;
    if (options.repair == "leaks") repair = Repair::leaks;
    if (options.repair == "all") repair = Repair::all;
    if (repair == Repair::none && options.repair != "none") return fail_usage("--repair: leaks or all");
    const std::string& path = options.files[0];
    const auto image = TRY(open_qcow2_for_check(path, repair));
    Result<CheckReport> report;
    {
        Bar bar("checking");
        report = Qcow2Checker::check(*image, repair, [&bar](uint64_t done, uint64_t total) { bar.show(done, total); });
    }
    if (!report) return add_context(report.error(), fmt::format("cannot check '{}'", path));
    if (options.json) {
        json::array messages;
        for (const std::string& message : report->messages) messages.push_back(json::value(message));
        print(json::serialize(json::object{{"file", path},
                                           {"errors", report->errors},
                                           {"leaks", report->leaks},
                                           {"repaired-errors", report->repaired_errors},
                                           {"repaired-leaks", report->repaired_leaks},
                                           {"clusters", report->clusters},
                                           {"allocated", report->allocated},
                                           {"compressed", report->compressed},
                                           {"end", report->file_end},
                                           {"messages", messages}}) +
              "\n");
    } else {
        for (const std::string& message : report->messages) print(message + "\n");
        if (report->repaired_errors + report->repaired_leaks != 0) {
            print(fmt::format("repaired {} errors and {} leaks\n", report->repaired_errors, report->repaired_leaks));
        }
        print(report->clean()
                  ? fmt::format("no errors; {} of {} clusters are in the file, {} of them compressed\n",
                                report->allocated, report->clusters, report->compressed)
                  : fmt::format("{} errors, {} leaked clusters; viv image check --repair {} '{}'\n", report->errors,
                                report->leaks, report->errors != 0 ? "all" : "leaks", path));
    }
    return report->clean() ? 0 : 1;
}

bool all_zeros(std::span<const std::byte> bytes) {
    return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

Result<int> convert(Options& options) {
    if (options.files.size() != 2) return fail_usage("viv image convert FROM TO; see viv image --help");
    const auto format = TRY(format_of(options.format, "--format")).value_or(ImageFormat::qcow2);
    const std::string& to = options.files[1];
    if (options.compress && format == ImageFormat::raw)
        return fail_usage("a raw image is never compressed; leave --compress or --format out");
    if (!options.backing.empty())
        return fail_usage("viv image convert makes an image that stands alone; leave --backing out");
    const auto source = TRY(open_source(options.files[0], options.source_format));
    const uint64_t size = source->sectors() * DiskImage::sector_size;
    const auto made = TRY(NewFile::make(to, options.force));
    std::unique_ptr<Qcow2Image> image;
    std::unique_ptr<ImageFile> raw;
    if (format == ImageFormat::qcow2) {
        const Header header = TRY(header_for(options, size));
        image = TRY(make_qcow2(*made, to, header));
        TRY(preallocate(options, *image));
    } else {
        raw = made->file();
        if (raw->resize(size) != DiskStatus::ok) return no_room(to);
    }
    const uint64_t piece = image ? image->header().cluster_size() : 65536;
    std::vector<std::byte> buffer(std::max<uint64_t>(piece, 1 << 20) / piece * piece);
    {
        Bar bar("converting");
        for (uint64_t at = 0; at < size;) {
            bar.show(at, size);
            if (at < source->size()) {
                const DiskExtent known = source->extent(at, source->size() - at);
                const uint64_t skip = known.length / piece * piece;
                if (known.zeros && skip != 0) {
                    at += skip;
                    continue;
                }
            }
            const auto part = std::span(buffer).first(std::min<uint64_t>(buffer.size(), size - at));
            if (source->read(at, part) != DiskStatus::ok)
                return fail(fmt::format("cannot read '{}' at byte {}", options.files[0], at));
            for (uint64_t done = 0; done < part.size(); done += piece) {
                const auto cluster = part.subspan(done, std::min<uint64_t>(piece, part.size() - done));
                if (all_zeros(cluster)) continue;
                const DiskStatus status = raw                ? raw->write(at + done, cluster)
                                          : options.compress ? image->write_compressed(at + done, cluster)
                                                             : image->write(at + done, cluster);
                if (status != DiskStatus::ok) return no_room(to);
            }
            at += part.size();
        }
    }
    if (image && image->flush() != DiskStatus::ok) return no_room(to);
    image.reset();
    raw.reset();
    TRY(made->complete());
    return 0;
}

Result<int> resize(Options& options) {
    if (options.files.size() != 2) return fail_usage("viv image resize FILE [+]SIZE; see viv image --help");
    const auto& [path, text] = std::pair(options.files[0], options.files[1]);
    const auto format = TRY(format_of(options.source_format, "--source-format"));
    auto image = TRY(open_image({path, ImageAccess::writable, format, {}, true, {}}));
    const bool more = text.starts_with('+');
    const uint64_t size = TRY(whole_sectors(more ? text.substr(1) : text)) + (more ? image->size() : 0);
    if (size < image->size() && !options.shrink) {
        return fail_usage(
            fmt::format("'{}' has {} bytes; what is behind {} would be lost; give --shrink if you mean it", path,
                        image->size(), size));
    }
    if (auto* grows = dynamic_cast<Qcow2Image*>(image.get())) {
        TRY(grows->resize(size));
        return 0;
    }
    image.reset();
    const OpenFile open = TRY(open_image_file(path, ImageAccess::writable));
    const auto file = make_image_file(open.fd, path, open.size);
    if (file->resize(size) != DiskStatus::ok || file->flush() != DiskStatus::ok) return no_room(path);
    return 0;
}

Result<int> compare(Options& options) {
    if (options.files.size() != 2) return fail_usage("viv image compare ONE OTHER; see viv image --help");
    const auto one = TRY(open_source(options.files[0], options.source_format));
    const auto other = TRY(open_source(options.files[1], options.format));
    const uint64_t size = std::max(one->size(), other->size());
    std::vector<std::byte> left(1 << 20);
    std::vector<std::byte> right(left.size());
    const auto fetch = [](DiskImage& image, uint64_t at, std::span<std::byte> out) {
        const uint64_t there = at < image.size() ? std::min<uint64_t>(out.size(), image.size() - at) : 0;
        std::ranges::fill(out.subspan(there), std::byte{0});
        return image.read(std::min(at, image.size()), out.first(there)) == DiskStatus::ok;
    };
    std::optional<uint64_t> difference;
    {
        Bar bar("comparing");
        for (uint64_t at = 0; at < size && !difference; at += left.size()) {
            bar.show(at, size);
            const uint64_t length = std::min<uint64_t>(left.size(), size - at);
            const auto a = std::span(left).first(length);
            const auto b = std::span(right).first(length);
            if (!fetch(*one, at, a) || !fetch(*other, at, b))
                return fail(fmt::format("cannot read the images at byte {}", at));
            const auto differs = std::ranges::mismatch(a, b);
            if (differs.in1 != a.end()) difference = at + static_cast<uint64_t>(differs.in1 - a.begin());
        }
    }
    if (options.json) {
        json::object result{{"same", !difference}};
        if (difference) result["at"] = *difference;
        print(json::serialize(result) + "\n");
    } else {
        print(difference ? fmt::format("they differ at byte {}\n", *difference) : std::string("they hold the same\n"));
    }
    return difference ? 1 : 0;
}

Result<int> rebase(Options& options) {
    if (options.files.size() != 1)
        return fail_usage("viv image rebase --unsafe --backing FILE --backing-format FORMAT IMAGE");
    if (!options.unsafe)
        return fail_usage(
            "viv image rebase changes only the name of the backing file, which --unsafe says that you know");
    if (!options.backing.empty() && !TRY(format_of(options.backing_format, "--backing-format"))) {
        return fail_usage("--backing needs --backing-format raw or qcow2");
    }
    const std::string& path = options.files[0];
    const auto image = TRY(open_image({path, ImageAccess::writable, ImageFormat::qcow2, {}, false, {}}));
    TRY(dynamic_cast<Qcow2Image&>(*image).set_backing(options.backing, options.backing_format));
    return 0;
}

}  // namespace

Result<int> image_command(const std::vector<std::string>& words) {
    if (words.empty() || std::ranges::count(words, "--help") != 0 || std::ranges::count(words, "-h") != 0) {
        print(image_help);
        return 0;
    }
    Options options;
    CLI::App app;
    app.set_help_flag();
    app.require_subcommand(1);
    struct Verb {
        const char* name;
        Result<int> (*run)(Options&);
        bool makes;
    };
    constexpr Verb verbs[] = {{"create", create, true},   {"info", info, false},     {"check", check, false},
                              {"convert", convert, true}, {"resize", resize, false}, {"compare", compare, false},
                              {"rebase", rebase, false}};
    std::string known;
    for (const Verb& verb : verbs) {
        CLI::App& sub = *app.add_subcommand(verb.name);
        sub.set_help_flag();
        sub.add_option("files", options.files);
        sub.add_option("--format", options.format);
        sub.add_option("--source-format", options.source_format);
        sub.add_flag("--json", options.json);
        if (std::string_view(verb.name) == "check") sub.add_option("--repair", options.repair);
        if (std::string_view(verb.name) == "info") sub.add_flag("--chain", options.chain);
        if (std::string_view(verb.name) == "resize") sub.add_flag("--shrink", options.shrink);
        if (std::string_view(verb.name) == "convert") sub.add_flag("--compress", options.compress);
        if (std::string_view(verb.name) == "rebase") sub.add_flag("--unsafe", options.unsafe);
        if (verb.makes || std::string_view(verb.name) == "rebase") {
            sub.add_option("--backing", options.backing);
            sub.add_option("--backing-format", options.backing_format);
        }
        known += fmt::format("{}{}", known.empty() ? "" : ", ", verb.name);
        if (!verb.makes) continue;
        sub.add_option("--cluster-size", options.cluster_size);
        sub.add_option("--compression", options.compression);
        sub.add_option("--preallocation", options.preallocation);
        sub.add_option("--version", options.version);
        sub.add_option("--refcount-bits", options.refcount_bits);
        sub.add_flag("--lazy-refcounts", options.lazy_refcounts);
        sub.add_flag("--extended-l2", options.extended_l2);
        sub.add_flag("--force", options.force);
    }
    const auto verb = std::ranges::find_if(verbs, [&](const Verb& one) { return words[0] == one.name; });
    if (verb == std::end(verbs))
        return fail_usage(fmt::format("viv image has no command '{}'; it has {}", words[0], known));
    try {
        app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
    } catch (const CLI::ParseError& error) {
        return fail_usage(fmt::format("viv image {}: {}; see viv image --help", words[0], error.what()));
    }
    return verb->run(options);
}

}  // namespace viv::cli
