################################################################################
#
# haosfs
#
################################################################################

HAOSFS_VERSION = 0.1.0
# This package is a part of the sources that it builds.
HAOSFS_SITE = $(realpath $(BR2_EXTERNAL_HAOSFS_PATH)/../..)
HAOSFS_SITE_METHOD = local
HAOSFS_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude /target
HAOSFS_LICENSE = MIT or Apache-2.0
HAOSFS_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE

HAOSFS_CARGO_BUILD_OPTS = --bin haosfs
HAOSFS_CARGO_INSTALL_OPTS = --bin haosfs

ifeq ($(BR2_PACKAGE_HAOSFS_STATIC),y)
HAOSFS_CARGO_ENV = RUSTFLAGS="-C target-feature=+crt-static"
endif

# Sources in a directory are taken as they are; the crates in Cargo.lock are fetched into VENDOR, where cargo looks for them.
define HAOSFS_FETCH_CRATES
	mkdir -p $(@D)/.cargo
	cd $(@D) && $(PKG_CARGO_ENV) cargo vendor --locked VENDOR >> .cargo/config.toml
endef
HAOSFS_DEPENDENCIES = host-rustc
HAOSFS_POST_RSYNC_HOOKS += HAOSFS_FETCH_CRATES

# mount(8) and umount(8) look for these, in /sbin alone.
define HAOSFS_INSTALL_LINKS
	sbin=sbin bin=../usr/bin; \
	if [ -L $(TARGET_DIR)/sbin ]; then sbin=usr/sbin bin=../bin; fi; \
	for name in mount.haosfs mount.fuse.haosfs umount.haosfs umount.fuse.haosfs; do \
		ln -sf $$bin/haosfs $(TARGET_DIR)/$$sbin/$$name || exit 1; \
	done
	$(INSTALL) -d $(TARGET_DIR)/usr/lib/haosfs
	ln -sf ../../bin/haosfs $(TARGET_DIR)/usr/lib/haosfs/rauc-backend
endef
HAOSFS_POST_INSTALL_TARGET_HOOKS += HAOSFS_INSTALL_LINKS

ifeq ($(BR2_PACKAGE_HAOSFS_BOOT_GUARD),y)
define HAOSFS_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 644 $(HAOSFS_SITE)/packaging/units/haosfs-boot-guard.service \
		$(TARGET_DIR)/usr/lib/systemd/system/haosfs-boot-guard.service
endef
endif

# FUSE alone will do; with the others the kernel joins the layers. In safe mode the upper is in memory, with its marks.
define HAOSFS_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_FUSE_FS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_BLK_DEV_LOOP)
	$(call KCONFIG_ENABLE_OPT,CONFIG_MISC_FILESYSTEMS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SQUASHFS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_OVERLAY_FS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_TMPFS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_TMPFS_XATTR)
endef

$(eval $(cargo-package))
