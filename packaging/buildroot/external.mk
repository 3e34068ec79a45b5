include $(sort $(wildcard $(BR2_EXTERNAL_HAOSFS_PATH)/package/*/*.mk))
